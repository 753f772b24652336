// The house rules: each takes the repository and gives its complaints, one line each, none when the rule is kept.
import path from "node:path";
import { isTest, isTestSupport, parseSource, type Mention, type SourceTree } from "./source-tree.ts";

export type Rule = (tree: SourceTree) => string[];

/** From the ground up: a file imports from its own folder or a lower one. */
const floors = [
  "base",
  "memory",
  "iommu",
  "pci",
  "nic",
  "network",
  "machine",
  "strategy",
  "migration",
  "audit",
  "explore",
  "host",
  "cli",
] as const;

/** These run in a browser worker as they are. */
const portableFloors = new Set<string>(floors.slice(0, floors.indexOf("host")));
/** The machine that is a process of the host is the one part of those floors that needs Node. */
const needsNode = /^src\/machine\/qemu\//;
/** Packages that need nothing of Node either. */
const portablePackages = new Set(["pure-rand", "valibot", "xxhash-wasm", "v86"]);
const nodeNames = ["Buffer", "process", "setImmediate", "clearImmediate", "require", "__dirname", "__filename"];
const nodeTypesAndMeta = ["NodeJS", "import.meta.dirname", "import.meta.filename"];

const LINES_MAX = 450;

/** Parts of the engine and the device that no command runs: tests and benchmarks do, and they live outside src/. */
const runByTests = [
  "src/machine/model/machine.ts",
  "src/explore/explore.ts",
  "src/iommu/iommu-tracker.ts",
  "src/iommu/posted-writes.ts",
  "src/migration/wire/memory-transport.ts",
];

/** The program's entries are those that bin/ and the package's scripts name. */
const entryMention = /\bsrc\/[\w/-]+\.ts\b/g;

function sources(tree: SourceTree): [file: string, text: string][] {
  return [...tree].filter(([file]) => file.startsWith("src/") && file.endsWith(".ts"));
}

function typeScript(tree: SourceTree): [file: string, text: string][] {
  return [...tree].filter(([file]) => /^(?:src|test|bench|setup)\/.*\.ts$/.test(file));
}

function floorOf(file: string): number {
  return floors.findIndex((floor) => file.startsWith(`src/${floor}/`));
}

function mentionsOf(file: string, tree: SourceTree): readonly Mention[] {
  return parseSource(file, tree.get(file) ?? "").mentions;
}

export const everyFileIsOnAFloor: Rule = (tree) =>
  sources(tree).flatMap(([file]) =>
    floorOf(file) < 0 ? [`${file} is on none of the floors ${floors.join(", ")}`] : [],
  );

export const importsGoDown: Rule = (tree) =>
  sources(tree).flatMap(([file]) =>
    mentionsOf(file, tree).flatMap(({ file: target, specifier }) => {
      if (target === undefined) return [];
      // The program's version is in package.json.
      if (target === "package.json") return [];
      if (!target.startsWith("src/")) return [`${file} imports ${specifier}, which is outside src/`];
      return floorOf(target) > floorOf(file) ? [`${file} imports ${specifier} from a higher floor`] : [];
    }),
  );

export const importsExist: Rule = (tree) =>
  typeScript(tree).flatMap(([file]) =>
    mentionsOf(file, tree).flatMap(({ file: target, specifier }) =>
      target === undefined || tree.has(target) ? [] : [`${file} imports ${specifier}, which does not exist`],
    ),
  );

/** Between folders at any depth: `machine/pc` may use `machine`, then `machine` may not use `machine/pc`. */
export const foldersHaveNoCycles: Rule = (tree) => {
  const graph = new Map<string, Set<string>>();
  for (const [file] of sources(tree)) {
    if (isTest(file)) continue;
    const folder = path.posix.dirname(file);
    const targets = mentionsOf(file, tree).flatMap((mention) => mention.file ?? []);
    const edges = graph.get(folder) ?? new Set<string>();
    for (const target of targets) edges.add(path.posix.dirname(target));
    edges.delete(folder);
    graph.set(folder, edges);
  }
  return cycles(graph).map((cycle) => `folders import each other: ${cycle.join(" -> ")}`);
};

export const filesHaveNoCycles: Rule = (tree) => {
  const graph = new Map<string, Set<string>>();
  for (const [file] of sources(tree)) {
    graph.set(file, new Set(mentionsOf(file, tree).flatMap((mention) => mention.file ?? [])));
  }
  return cycles(graph).map((cycle) => `files import each other: ${cycle.join(" -> ")}`);
};

/** One cycle for each edge that closes one in a depth-first walk. */
function cycles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const found: string[][] = [];
  const finished = new Set<string>();
  const walk = (node: string, trail: readonly string[]): void => {
    const start = trail.indexOf(node);
    if (start >= 0) found.push([...trail.slice(start), node]);
    if (start >= 0 || finished.has(node)) return;
    for (const next of graph.get(node) ?? []) walk(next, [...trail, node]);
    finished.add(node);
  };
  for (const node of graph.keys()) walk(node, []);
  return found;
}

export const lowerFloorsNeedNoNode: Rule = (tree) =>
  sources(tree).flatMap(([file, text]) => {
    const isPortable = portableFloors.has(file.split("/")[1] ?? "") && !needsNode.test(file);
    if (!isPortable || isTest(file) || isTestSupport(file)) return [];
    const { mentions, names } = parseSource(file, text);
    const modules = mentions.filter((mention) => mention.isNode).map((mention) => mention.specifier);
    const packages = mentions
      .filter((mention) => mention.file === undefined && !mention.isNode)
      .filter((mention) => !portablePackages.has(mention.specifier.split("/")[0] ?? ""));
    const globals = [...nodeNames, ...nodeTypesAndMeta].filter((name) => names.has(name));
    const used = [...modules, ...globals, ...packages.map((mention) => mention.specifier)];
    return used.map((name) => `${file} uses ${name}, which a browser worker does not have`);
  });

export const filesSayWhatLivesThere: Rule = (tree) =>
  sources(tree).flatMap(([file, text]) => {
    if (isTest(file)) return [];
    const lines = text.replace(/^#!.*\n/, "").split("\n");
    const end = lines.findIndex((line) => !line.startsWith("//"));
    const comment = lines.slice(0, end).map((line) => line.slice(2).trim());
    return /^\S.*[.:?!](?:\s|$)/.test(comment.join(" ")) ? [] : [`${file} does not start with a sentence in a comment`];
  });

export const filesAreShort: Rule = (tree) =>
  typeScript(tree).flatMap(([file, text]) => {
    const count = text.split("\n").length - 1;
    return count > LINES_MAX ? [`${file} has ${count} lines, more than ${LINES_MAX}`] : [];
  });

export const everySourceIsUsed: Rule = (tree) => {
  const named = ["bin/underway", "package.json"].flatMap((file) => tree.get(file)?.match(entryMention) ?? []);
  const program = reachable(tree, [...named, ...runByTests]);
  const tests = reachable(
    tree,
    sources(tree).flatMap(([file]) => (isTest(file) ? [file] : [])),
  );
  return sources(tree).flatMap(([file]) => {
    const isUsed = program.has(file) || isTest(file) || (isTestSupport(file) && tests.has(file));
    return isUsed ? [] : [`${file} is reached from none of ${named.join(", ")}, and is not a test's`];
  });
};

function reachable(tree: SourceTree, roots: readonly string[]): Set<string> {
  const reached = new Set<string>();
  const waiting = [...roots];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (reached.has(file) || !tree.has(file) || !file.endsWith(".ts")) continue;
    reached.add(file);
    waiting.push(...mentionsOf(file, tree).flatMap((mention) => mention.file ?? []));
  }
  return reached;
}

/** The words stand here with a space in them, so that this file does not hold them. */
const forbiddenWords: readonly { readonly pattern: RegExp; readonly why: string }[] = [
  { pattern: words(String.raw`(?<![\w.$}-])/`, ["wo rk/", "tm p/", "ho me/"]), why: "a path of one machine" },
  { pattern: words("", ["npm js.", "debian .org", "node source.", "pypi .org"]), why: "a registry's or mirror's host" },
  { pattern: words(String.raw`\b`, ["TO DO", "FIX ME"]), why: "work that is not done" },
  {
    pattern: words(String.raw`\b(?:test|it|describe|suite)\.`, ["on ly", "sk ip", "to do"]),
    why: "tests that do not run",
  },
];

function words(before: string, alternatives: readonly string[]): RegExp {
  const escaped = alternatives.map((word) => word.replaceAll(" ", "").replaceAll(".", String.raw`\.`));
  return new RegExp(`${before}(?:${escaped.join("|")})`);
}

export const nothingForbiddenIsWritten: Rule = (tree) =>
  [...tree].flatMap(([file, text]) =>
    text.split("\n").flatMap((line, index) =>
      forbiddenWords.flatMap(({ pattern, why }) => {
        const found = pattern.exec(line)?.[0];
        return found === undefined ? [] : [`${file}:${index + 1} has ${JSON.stringify(found)}: ${why}`];
      }),
    ),
  );
