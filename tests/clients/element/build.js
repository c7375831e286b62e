// Builds Element's interface into a directory: `node build.js DIRECTORY`. Takes some 20 seconds.
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import postcss from "postcss";
import easings from "postcss-easings";
import hexRgba from "postcss-hexrgba";
import imports from "postcss-import";
import mixins from "postcss-mixins";
import nested from "postcss-nested";
import scss from "postcss-scss";
import variables from "postcss-simple-vars";

const target = path.resolve(process.argv[2]);
const modules = path.join(import.meta.dirname, "node_modules");
const element = path.join(modules, "matrix-react-sdk");
const WORKERS = ["blurhash", "indexeddb", "playback"];
const DEFINE = { global: "globalThis", "process.env.NODE_ENV": '"production"' };

/** Stands in for what Element's own bundler does beyond plain modules. */
const elementsBundler = {
  name: "element",
  setup({ onResolve, onLoad }) {
    const virtual = (filter, namespace, contents) => {
      onResolve({ filter }, (found) => ({ path: found.path, namespace }));
      onLoad({ filter: /.*/, namespace }, (found) => ({ contents: contents(found.path), loader: "js" }));
    };
    virtual(/^\$webapp\/i18n\/languages\.json$/, "languages", () => `export default "i18n/languages.json";`);
    virtual(/^!!raw-loader!/, "raw", () => `export default "";`);
    virtual(/^(fs|path|crypto)$/, "node", () => "module.exports = {};");
    virtual(
      /(blurhash|indexeddb|playback)WorkerFactory$/,
      "worker",
      (name) => `export default () => new Worker("${WORKERS.find((worker) => name.includes(worker))}.worker.js");`,
    );
    // Recording and playing sound needs worklets and codecs that the tests do without.
    virtual(/recorderWorkletFactory$|opus-recorder/, "sound", () => `export default () => { throw new Error("no sound"); };`);
    // An image is its address, and an icon a component.
    onLoad({ filter: /\.svg$/ }, async (found) => ({
      resolveDir: import.meta.dirname,
      contents: `import React from "react";
        export default "data:image/svg+xml;base64,${(await readFile(found.path)).toString("base64")}";
        export const Icon = (properties) => React.createElement("svg", properties);`,
    }));
  },
};

async function script() {
  const common = { bundle: true, define: DEFINE, logLevel: "error", target: "chrome120" };
  for (const worker of WORKERS) {
    const entry = path.join(element, "src", "workers", `${worker}.worker.ts`);
    await build({ ...common, entryPoints: [entry], format: "iife", outfile: path.join(target, `${worker}.worker.js`) });
  }
  const image = Object.fromEntries([".gif", ".jpg", ".png"].map((kind) => [kind, "dataurl"]));
  const file = Object.fromEntries([".mp3", ".ogg", ".ttf", ".wasm", ".woff", ".woff2"].map((kind) => [kind, "file"]));
  await build({
    ...common,
    entryPoints: { application: path.join(import.meta.dirname, "application.js") },
    inject: [path.join(import.meta.dirname, "shim.js")],
    format: "esm",
    splitting: true,
    outdir: target,
    loader: { ...image, ...file, ".css": "empty", ".pcss": "empty" },
    plugins: [elementsBundler],
    tsconfigRaw: { compilerOptions: { jsx: "react", experimentalDecorators: true, useDefineForClassFields: true } },
  });
}

async function style() {
  const theme = path.join(element, "res", "themes", "light", "css", "light.pcss");
  const plugins = [imports(), mixins(), variables(), nested(), easings(), hexRgba()];
  const { css } = await postcss(plugins).process(await readFile(theme, "utf8"), { from: theme, parser: scss });
  const compound = path.join(modules, "@vector-im");
  const tokens = path.join(compound, "compound-design-tokens", "assets", "web", "css");
  const names = ["cpd-common-base", "cpd-common-semantic", "cpd-theme-light-base", "cpd-theme-light-semantic"];
  const files = [...names.map((name) => path.join(tokens, `${name}.css`)), path.join(compound, "compound-web", "dist", "style.css")];
  const base = await Promise.all(files.map((name) => readFile(name, "utf8")));
  // Comments of one line have come through from the other syntax.
  const sheet = [...base, css].join("\n").replaceAll(/^\s*\/\/.*$/gm, "").replaceAll("$(res)", "res");
  await writeFile(path.join(target, "theme.css"), sheet);
}

async function rest() {
  await mkdir(path.join(target, "i18n"), { recursive: true });
  await cp(path.join(element, "src", "i18n", "strings", "en_EN.json"), path.join(target, "i18n", "en_EN.json"));
  await writeFile(path.join(target, "i18n", "languages.json"), JSON.stringify({ en: "en_EN.json" }));
  await cp(path.join(element, "res", "img"), path.join(target, "res", "img"), { recursive: true });
  await writeFile(
    path.join(target, "index.html"),
    `<!doctype html>
<html><head><meta charset="utf-8"><title>Element</title>
  <link rel="stylesheet" href="theme.css" data-mx-theme="light"></head>
<body class="cpd-theme-light" style="margin: 0"><div id="matrixchat" style="height: 100vh"></div>
  <script type="module" src="application.js"></script></body></html>`,
  );
}

await mkdir(target, { recursive: true });
await Promise.all([script(), style(), rest()]);
