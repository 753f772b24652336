// The house test: the rules of docs/STYLE.md and docs/ARCHITECTURE.md that a machine can hold, each shown to bite.
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import * as rules from "./house/rules.ts";
import { readTree, type SourceTree } from "./house/source-tree.ts";

const repository = readTree(path.dirname(import.meta.dirname));

/** A rule holds for the repository, complains of each specimen, and of nothing in its counterpart that keeps it. */
function house(
  name: string,
  rule: rules.Rule,
  cases: { readonly breaks: readonly Record<string, string>[]; readonly keeps: Record<string, string> },
): void {
  test(name, () => {
    const complaints = rule(repository);
    assert.ok(complaints.length === 0, complaints.join("\n"));
  });
  test(`the rule bites: ${name}`, () => {
    for (const specimen of cases.breaks) assert.notDeepEqual(rule(asTree(specimen)), [], JSON.stringify(specimen));
    assert.deepEqual(rule(asTree(cases.keeps)), []);
  });
}

function asTree(files: Record<string, string>): SourceTree {
  return new Map(Object.entries(files));
}

house("every source file is on a floor", rules.everyFileIsOnAFloor, {
  breaks: [{ "src/utilities/a.ts": "" }, { "src/a.ts": "" }],
  keeps: { "src/base/a.ts": "", "src/machine/pc/a.ts": "", "bench/a.ts": "" },
});

house("imports go down or stay on their floor", rules.importsGoDown, {
  breaks: [
    { "src/nic/a.ts": 'import { b } from "../migration/b.ts";' },
    { "src/nic/a.ts": 'import type { B } from "../machine/b.ts";' },
    { "src/nic/a.ts": 'export * from "../host/b.ts";' },
    { "src/nic/a.ts": 'export { b } from "../host/b.ts";' },
    { "src/nic/a.ts": 'const b = await import("../host/b.ts");' },
    { "src/nic/a.ts": 'let b: import("../host/b.ts").B;' },
    { "src/nic/a.ts": 'new Worker(new URL("../host/b.ts", import.meta.url));' },
    { "src/nic/a.test.ts": 'import "../cli/b.ts";' },
    { "src/host/a.ts": 'import "../../setup/b.ts";' },
  ],
  keeps: {
    "src/nic/a.ts":
      'import "../base/b.ts"; import "./b.ts"; // import "../cli/b.ts"\nconst text = `import "../cli/b.ts"`;',
    "test/a.test.ts": 'import "../src/cli/b.ts";',
    "src/cli/a.ts": 'import { version } from "../../package.json" with { type: "json" };',
  },
});

house("every import names a file that exists", rules.importsExist, {
  breaks: [{ "src/nic/a.ts": 'import "./b.ts";' }],
  keeps: { "src/nic/a.ts": 'import "./b.ts"; import "node:fs"; import "valibot";', "src/nic/b.ts": "" },
});

house("no two folders import each other", rules.foldersHaveNoCycles, {
  breaks: [
    { "src/machine/a.ts": 'import "./pc/b.ts";', "src/machine/pc/b.ts": 'import type { A } from "../a.ts";' },
    {
      "src/host/x/a.ts": 'import "../y/a.ts";',
      "src/host/y/a.ts": 'import "../z/a.ts";',
      "src/host/z/a.ts": 'import "../x/b.ts";',
      "src/host/x/b.ts": "",
    },
  ],
  keeps: {
    "src/machine/a.ts": "",
    "src/machine/pc/b.ts": 'import "../a.ts";',
    "src/machine/model/b.ts": 'import "../a.ts";',
  },
});

house("no two files import each other", rules.filesHaveNoCycles, {
  breaks: [
    { "src/nic/a.ts": 'import type { B } from "./b.ts";', "src/nic/b.ts": 'import type { A } from "./a.ts";' },
    { "src/nic/a.ts": 'import "./a.ts";' },
  ],
  keeps: {
    "src/nic/a.ts": 'import "./b.ts"; import "./c.ts";',
    "src/nic/b.ts": 'import "./c.ts";',
    "src/nic/c.ts": "",
  },
});

house("everything below the host runs without Node", rules.lowerFloorsNeedNoNode, {
  breaks: [
    { "src/nic/a.ts": 'import { readFile } from "node:fs/promises";' },
    { "src/machine/pc/a.ts": 'import fs from "fs";' },
    { "src/memory/a.ts": "export const a = Buffer.alloc(1);" },
    { "src/audit/a.ts": "export function a(b: Buffer): void {}" },
    { "src/migration/a.ts": "setImmediate(() => undefined);" },
    { "src/explore/a.ts": "const { env } = process;" },
    { "src/base/a.ts": "const a = { process };" },
    { "src/base/a.ts": "export const a = import.meta.dirname;" },
    { "src/base/a.ts": "let timer: NodeJS.Timeout;" },
    { "src/network/a.ts": 'import picocolors from "picocolors";' },
  ],
  keeps: {
    "src/nic/a.ts": 'import * as v from "valibot";\nthis.process(); const a = { process: 1, Buffer: 2 }; // Buffer',
    "src/nic/a.test.ts": 'import "node:test"; Buffer.alloc(1);',
    "src/nic/a.fixture.ts": 'import "node:assert/strict";',
    "src/machine/qemu/a.ts": 'import "node:net";',
    "src/host/a.ts": 'import "node:net"; process.exit();',
  },
});

house("every source file starts with a sentence that says what lives there", rules.filesSayWhatLivesThere, {
  breaks: [
    { "src/nic/a.ts": "export const a = 1;" },
    { "src/nic/a.ts": "// helpers\nexport const a = 1;" },
    { "src/nic/a.ts": '\n// Too late.\nimport "./b.ts";' },
  ],
  keeps: {
    "src/nic/a.ts": "// The receive unit: from a frame\n// to its write-backs.\nexport const a = 1;",
    "src/nic/a.test.ts": 'import "node:test";',
  },
});

house("no file is longer than a person reads in one sitting", rules.filesAreShort, {
  breaks: [{ "src/nic/a.ts": "// x\n".repeat(451) }, { "test/a.test.ts": "// x\n".repeat(451) }],
  keeps: { "src/nic/a.ts": "// x\n".repeat(450), "docs/a.md": "x\n".repeat(1000) },
});

house("every source file is reached by the program or is a test's", rules.everySourceIsUsed, {
  breaks: [
    { "bin/underway": "src/cli/main.ts", "src/cli/main.ts": "", "src/nic/a.ts": "" },
    {
      "bin/underway": "src/cli/main.ts",
      "src/cli/main.ts": "",
      "src/nic/a.ts": "",
      "src/nic/a.test.ts": 'import "./a.ts";',
    },
    { "src/cli/fakes.ts": "" },
  ],
  keeps: {
    "bin/underway": 'exec node "$root/src/cli/main.ts"',
    "package.json": '"assets": "run src/host/assets-main.ts"',
    "src/cli/main.ts": 'import "../../package.json"; new URL("../host/worker.ts", import.meta.url);',
    "src/host/worker.ts": 'import "../nic/a.ts";',
    "src/host/assets-main.ts": "",
    "src/nic/a.ts": "",
    "src/nic/a.test.ts": 'import "./a.fixture.ts"; import "./fakes.ts";',
    "src/nic/a.fixture.ts": "",
    "src/nic/fakes.ts": "",
  },
});

const join = (...parts: string[]): string => parts.join("");

house("nothing is written that does not belong in the repository", rules.nothingForbiddenIsWritten, {
  breaks: [
    { "docs/a.md": join("see /wo", "rk/main") },
    { "src/nic/a.ts": join('"/t', 'mp/x"') },
    { "setup/a": join("https://registry.npm", "js.org") },
    { "setup/a": join("deb.debian", ".org") },
    { "src/nic/a.ts": join("// TO", "DO: later") },
    { "src/nic/a.test.ts": join("test.on", 'ly("x", () => {})') },
    { "src/nic/a.test.ts": join("describe.sk", 'ip("x", () => {})') },
  ],
  keeps: {
    "README.md": "Debian's mirrors; https://www.kernel.org/; a framework/of ours; ~/.cache",
    "src/nic/a.ts": "reader.skip(4); const path = `${root}/tmp/x`; mkdir -p /tmp /root",
  },
});
