// The tables of docs/PROTOCOL.md are those of the code. `UPDATE_DOCS=1 node --test test/wire/protocol-doc.test.ts` writes them.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { isControlKind } from "../../src/migration/wire/control-payloads.ts";
import { wireAdvice } from "../../src/migration/wire/errors.ts";
import { messageNumbers, payloadLengths } from "../../src/migration/wire/frame.ts";
import { conversationStates, legalMessages, type LegalMessage } from "../../src/migration/wire/legal.ts";
import type { MessageKind, Role } from "../../src/migration/wire/protocol.ts";

const document = new URL("../../docs/PROTOCOL.md", import.meta.url);

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function byteText(bytes: number): string {
  return bytes.toLocaleString("en-US").replaceAll(",", " ");
}

function lengthText(kind: MessageKind): string {
  const { minBytes, maxBytes } = payloadLengths[kind];
  return minBytes === maxBytes ? byteText(minBytes) : `${byteText(minBytes)} to ${byteText(maxBytes)}`;
}

function messageTable(): string {
  const rows = (Object.entries(messageNumbers) as [MessageKind, number][]).map(([kind, number]) => {
    const senders = new Set(legalMessages.filter((row) => row.kind === kind).map((row) => row.sender));
    const sender = senders.size === 2 ? "either" : [...senders].join();
    const form = isControlKind(kind) ? "JSON" : payloadLengths[kind].maxBytes === 0 ? "none" : "binary";
    return [String(number), `\`${kind}\``, sender, form, lengthText(kind)];
  });
  return table(["number", "message", "sender", "payload", "payload bytes"], rows);
}

function moves(rows: readonly LegalMessage[], sender: Role): string {
  const mine = rows.filter((row) => row.sender === sender);
  const text = mine.map(({ kind, state, next }) => (next === state ? `\`${kind}\`` : `\`${kind}\` → ${next}`));
  return text.length === 0 ? "nothing" : text.join(", ");
}

function stateTable(): string {
  const rows = conversationStates.map((state) => {
    const legal = legalMessages.filter((row) => row.state === state);
    return [state, moves(legal, "source"), moves(legal, "destination")];
  });
  return table(["state", "the source may send", "the destination may send"], rows);
}

/** Mermaid takes no hyphen in the name of a state. */
function diagramName(state: string): string {
  return state.replaceAll("-", "");
}

function stateDiagram(): string {
  const isProgress = ({ kind }: LegalMessage): boolean => kind !== "keepalive" && kind !== "abort" && kind !== "error";
  const arrows = new Map<string, string[]>();
  for (const { state, next, kind, sender } of legalMessages.filter(isProgress)) {
    const arrow = `${diagramName(state)} --> ${diagramName(next)}`;
    arrows.set(arrow, [...(arrows.get(arrow) ?? []), sender === "source" ? kind : `(${kind})`]);
  }
  const lines = [...arrows].map(([arrow, kinds]) => `    ${arrow}: ${kinds.join(", ")}`);
  const aliases = conversationStates
    .filter((state) => diagramName(state) !== state)
    .map((state) => `    state "${state}" as ${diagramName(state)}`);
  const begin = ["```mermaid", "stateDiagram-v2", ...aliases, "    [*] --> greeting"];
  return [...begin, ...lines, "    done --> [*]", "```"].join("\n");
}

function errorTable(): string {
  return table(
    ["code", "what to do"],
    Object.entries(wireAdvice).map(([code, advice]) => [`\`${code}\``, advice]),
  );
}

const generated: Readonly<Record<string, string>> = {
  messages: messageTable(),
  states: stateTable(),
  "state diagram": stateDiagram(),
  errors: errorTable(),
};

function withGenerated(text: string): string {
  let result = text;
  for (const [name, content] of Object.entries(generated)) {
    const section = new RegExp(`(<!-- generated: ${name} -->\n)[^]*?(<!-- end -->)`);
    assert.match(result, section, `docs/PROTOCOL.md has no section for ${name}`);
    result = result.replace(section, (_all, begin: string, end: string) => `${begin}\n${content}\n\n${end}`);
  }
  return result;
}

test("docs/PROTOCOL.md holds the tables that the code follows", () => {
  const text = readFileSync(document, "utf8");
  const current = withGenerated(text);
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(document, current);
  else assert.equal(text, current);
});
