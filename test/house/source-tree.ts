// The repository as the house rules see it: text by path, and what each source file imports and names.
import { readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import path from "node:path";
import { parseSync } from "oxc-parser";

/** Text by path; paths are relative to the repository, with forward slashes. */
export type SourceTree = ReadonlyMap<string, string>;

const notOurs = new Set([".git", "node_modules", ".cache", "coverage"]);
/** Not text, or what runs leave behind and git ignores. */
const notText = /\.(?:png|jpg|gif|ico|wasm|pcapng|woff2?|log|ndjson)$/;

export function readTree(root: string): SourceTree {
  const tree = new Map<string, string>();
  const visit = (folder: string): void => {
    for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
      if (notOurs.has(entry.name)) continue;
      const name = path.posix.join(folder, entry.name);
      if (entry.isDirectory()) visit(name);
      if (entry.isFile() && !notText.test(name)) tree.set(name, readFileSync(path.join(root, name), "utf8"));
    }
  };
  visit("");
  return tree;
}

export function isTest(file: string): boolean {
  return file.endsWith(".test.ts");
}

/** What tests share: pretended parts and prepared inputs, in files that say so by name. */
export function isTestSupport(file: string): boolean {
  return /(?:^|[-./])(?:fakes?|fixtures?|testing|test)(?=[-./])/.test(path.posix.relative("src", file));
}

/** One mention of another module, by import, export-from, `import()`, `import type` or `new URL(…, import.meta.url)`. */
export interface Mention {
  /** As written. */
  readonly specifier: string;
  /** The file's path for a relative specifier; undefined for a package or a module of Node. */
  readonly file: string | undefined;
  readonly isNode: boolean;
}

export interface SourceFile {
  readonly mentions: readonly Mention[];
  /** Every name that is used as a variable or a type, not as the name of a property. */
  readonly names: ReadonlySet<string>;
}

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

const parsed = new Map<string, SourceFile>();

export function parseSource(file: string, text: string): SourceFile {
  const key = `${file}\n${text}`;
  const known = parsed.get(key) ?? analyse(file, text);
  parsed.set(key, known);
  return known;
}

function analyse(file: string, text: string): SourceFile {
  const result = parseSync(file, text);
  const [error] = result.errors;
  if (error !== undefined) throw new Error(`${file}: ${error.message}`);
  const mentions: Mention[] = [];
  const names = new Set<string>();
  const visit = (node: Node): void => {
    const specifier = mentionedModule(node);
    if (specifier !== undefined) mentions.push(resolve(file, specifier));
    if (node.type === "Identifier") names.add(String(node["name"]));
    if (node.type === "MetaProperty") names.add("import.meta");
    if (node.type === "MemberExpression" && isNode(node["object"]) && node["object"].type === "MetaProperty") {
      names.add(`import.meta.${isNode(node["property"]) ? String(node["property"]["name"]) : ""}`);
    }
    for (const child of children(node)) visit(child);
  };
  visit(result.program as unknown as Node);
  return { mentions, names };
}

function mentionedModule(node: Node): string | undefined {
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportAllDeclaration":
    case "ExportNamedDeclaration":
    case "ImportExpression":
    case "TSImportType":
      return literal(node["source"]);
    case "NewExpression": {
      const [target, base] = node["arguments"] as readonly unknown[];
      const isUrl = isNode(node["callee"]) && node["callee"]["name"] === "URL" && base !== undefined;
      const found = isUrl ? literal(target) : undefined;
      return found?.endsWith(".ts") === true ? found : undefined;
    }
    default:
      return undefined;
  }
}

function resolve(file: string, specifier: string): Mention {
  const isRelative = specifier.startsWith(".");
  return {
    specifier,
    file: isRelative ? path.posix.join(path.posix.dirname(file), specifier) : undefined,
    isNode: !isRelative && isBuiltin(specifier),
  };
}

/** The parts of a node, without the names of properties: `x.process` and `{ process: 1 }` use no variable. */
function children(node: Node): Node[] {
  const skipped = new Set<string>();
  if (node["computed"] !== true) {
    if (node.type === "MemberExpression") skipped.add("property");
    if ("key" in node) skipped.add("key");
  }
  if (node.type === "TSQualifiedName") skipped.add("right");
  if (node.type === "ImportSpecifier") skipped.add("imported");
  if (node.type === "ExportSpecifier") skipped.add("exported");
  return Object.entries(node).flatMap(([key, value]) => (skipped.has(key) ? [] : nodesIn(value)));
}

function nodesIn(value: unknown): Node[] {
  if (Array.isArray(value)) return value.flatMap(nodesIn);
  return isNode(value) ? [value] : [];
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

function literal(value: unknown): string | undefined {
  return isNode(value) && typeof value["value"] === "string" ? value["value"] : undefined;
}
