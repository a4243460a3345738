// Builds the page into dist/: hashed names, a .gz beside each file, and build.json with the hash of the
// sources, so that a stale bundle is found (console.md 8.4-8.7).
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const INPUTS = ["src", "build.mjs", "package.json", "package-lock.json", "tsconfig.json"];

function filesOf(path) {
  const entries = readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((e) => (e.isDirectory() ? filesOf(join(path, e.name)) : [join(path, e.name)]));
}

function sourceHash() {
  const hash = createHash("sha256");
  for (const input of INPUTS) {
    const path = join(here, input);
    for (const file of input === "src" ? filesOf(path) : [path]) {
      const name = relative(here, file).split("\\").join("/");
      hash.update(`${name}\0`).update(createHash("sha256").update(readFileSync(file)).digest());
    }
  }
  return hash.digest("hex");
}

/** A file taken over as it is, under a name with its hash. */
function copied(path) {
  const bytes = readFileSync(join(here, path));
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 8).toUpperCase();
  const name = basename(path).replace(/(\.\w+)$/, `-${hash}$1`);
  writeFileSync(join(dist, name), bytes);
  writeFileSync(join(dist, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  return name;
}

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
const result = await build({
  absWorkingDir: here,
  entryPoints: { console: "src/main.tsx", style: "src/style.css" },
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  metafile: true,
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});

const outputs = Object.entries(result.metafile.outputs);
const nameOf = (entry) => {
  const found = outputs.find(([, output]) => output.entryPoint === entry);
  if (!found) throw new Error(`no output for ${entry}`);
  return relative("dist", found[0]);
};
// Everything the first paint loads: the entry and what it imports statically, not the lazy chunks.
function startOf(path, seen = new Set()) {
  if (seen.has(path)) return seen;
  seen.add(path);
  for (const i of result.metafile.outputs[path].imports) {
    if (i.kind === "import-statement" && !i.external) startOf(i.path, seen);
  }
  return seen;
}

const script = nameOf("src/main.tsx");
const style = nameOf("src/style.css");
const icon = copied("src/favicon.svg");
const page = readFileSync(join(here, "src/index.html"), "utf8")
  .replace("{{icon}}", icon)
  .replace("{{script}}", script)
  .replace("{{style}}", style);
writeFileSync(join(dist, "index.html"), page);
for (const [path] of outputs) {
  const bytes = readFileSync(join(here, path));
  writeFileSync(join(here, `${path}.gz`), gzipSync(bytes, { level: 9 }));
}
const start = [...startOf(`dist/${script}`)].map((path) => relative("dist", path)).sort();
const gz = (name) => gzipSync(readFileSync(join(dist, name)), { level: 9 }).length;
const startGzBytes = start.concat(style).reduce((sum, name) => sum + gz(name), 0);
writeFileSync(
  join(dist, "build.json"),
  `${JSON.stringify({ source_sha256: sourceHash(), script, style, start, start_gz_bytes: startGzBytes }, null, 1)}\n`,
);
process.stdout.write(`dist: start ${(startGzBytes / 1024).toFixed(1)} KB gz, ${outputs.length} files\n`);
