// Element's chat, mounted: configuration, language, and the screens in the address. Element Web has more
// around it, such as updates, crash reports and single sign-on, which no homeserver sees.
import React from "react";
import ReactDOM from "react-dom";
import BasePlatform from "matrix-react-sdk/src/BasePlatform";
import PlatformPeg from "matrix-react-sdk/src/PlatformPeg";
import SdkConfig from "matrix-react-sdk/src/SdkConfig";
import { setLanguage } from "matrix-react-sdk/src/languageHandler";

class Platform extends BasePlatform {
  getConfig = async () => SdkConfig.get();
  getDefaultDeviceDisplayName = () => "Element";
  getHumanReadableName = () => "Web Platform";
  requestNotificationPermission = async () => "denied";
  getAppVersion = async () => "test";
  reload = () => window.location.reload();
}

function screenInAddress() {
  const { hash } = window.location;
  if (!hash.startsWith("#/")) return { screen: "", params: {} };
  const [screen, query] = hash.slice(2).split("?");
  return { screen, params: Object.fromEntries(new URLSearchParams(query)) };
}

async function main() {
  const config = await (await fetch("config.json")).json();
  PlatformPeg.set(new Platform());
  SdkConfig.put(config);
  await setLanguage("en");
  // Only now, because these read the configuration and the language as they are loaded.
  const { AutoDiscovery } = await import("matrix-js-sdk/src/autodiscovery");
  const { default: AutoDiscoveryUtils } = await import("matrix-react-sdk/src/utils/AutoDiscoveryUtils");
  const { default: MatrixChat } = await import("matrix-react-sdk/src/components/structures/MatrixChat");
  const server = config.default_server_config;
  const found = await AutoDiscovery.fromDiscoveryConfig(server);
  const validated = await AutoDiscoveryUtils.buildValidatedConfigFromDiscovery(server["m.homeserver"].server_name, found, true);
  validated.isDefault = true;
  SdkConfig.add({ validated_server_config: validated });

  let chat;
  let ownHash;
  window.addEventListener("hashchange", () => {
    if (window.location.hash === ownHash) return;
    const { screen, params } = screenInAddress();
    chat.showScreen(screen, params);
  });
  const { screen, params } = screenInAddress();
  const properties = {
    ref: (mounted) => {
      chat = mounted;
      window.matrixChat = mounted;
    },
    config: SdkConfig.get(),
    onNewScreen: (name) => {
      ownHash = `#/${name}`;
      window.location.hash = ownHash;
    },
    onTokenLoginCompleted: () => {},
    realQueryParams: {},
    startingFragmentQueryParams: params,
    initialScreenAfterLogin: screen ? { screen, params } : undefined,
    defaultDeviceDisplayName: "Element",
    enableGuest: false,
  };
  ReactDOM.render(React.createElement(MatrixChat, properties), document.getElementById("matrixchat"));
}

main();
