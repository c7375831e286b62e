// Hydrogen Web, whole, as its library offers it: from the log-in screen to the rooms.
import { Platform, RootViewModel, FeatureSet, createNavigation, createRouter } from "hydrogen-view-sdk";

const platform = new Platform({
  container: document.querySelector("#app"),
  assetPaths: {
    downloadSandbox: "assets/download-sandbox.html",
    worker: "assets/main.js",
    olm: { wasm: "olm/olm.wasm", legacyBundle: "olm/olm_legacy.js", wasmBundle: "olm/olm.js" },
    serviceWorker: "sw.js",
  },
  config: { defaultHomeServer: window.HOMESERVER_URL, themeManifests: [] },
  options: { development: false },
});
const navigation = createNavigation();
platform.setNavigation(navigation);
await platform.init();
const urlRouter = createRouter({ navigation, history: platform.history });
urlRouter.attach();
const features = await FeatureSet.load(platform.settingsStorage);
const root = new RootViewModel({ platform, urlRouter, navigation, features });
await root.load();
platform.createAndMountRootView(root);
