// Which message is legal in which state: one table of data, used by both sides and printed into docs/PROTOCOL.md.
import type { MessageKind, Role } from "./protocol.ts";

/** States of a conversation, in the order in which a good migration meets them; the last two are final. */
export const conversationStates = [
  "greeting",
  "greeted",
  "negotiated",
  "queried",
  "offered",
  "pre-copy",
  "switchover",
  "loading",
  "ready",
  "committed",
  "running",
  "done",
  "failed",
] as const;
export type ConversationState = (typeof conversationStates)[number];

export interface LegalMessage {
  readonly state: ConversationState;
  readonly sender: Role;
  readonly kind: MessageKind;
  readonly next: ConversationState;
}

type Row = readonly [state: ConversationState, sender: Role, kind: MessageKind, next: ConversationState];

const progress: readonly Row[] = [
  ["greeting", "source", "hello", "greeted"],
  ["greeted", "destination", "hello-ack", "negotiated"],
  ["negotiated", "source", "offer", "offered"],
  ["negotiated", "source", "query-outcome", "queried"],
  ["negotiated", "source", "goodbye", "done"],
  ["queried", "destination", "outcome", "negotiated"],
  ["offered", "destination", "accept", "pre-copy"],
  ["pre-copy", "source", "pages", "pre-copy"],
  ["pre-copy", "source", "zero-pages", "pre-copy"],
  ["pre-copy", "source", "round-end", "pre-copy"],
  ["pre-copy", "source", "machine-state", "switchover"],
  ["pre-copy", "source", "vf-state", "switchover"],
  ["switchover", "source", "pages", "switchover"],
  ["switchover", "source", "zero-pages", "switchover"],
  ["switchover", "source", "round-end", "switchover"],
  ["switchover", "source", "machine-state", "switchover"],
  ["switchover", "source", "vf-state", "switchover"],
  ["switchover", "source", "end-of-state", "loading"],
  ["loading", "destination", "ready", "ready"],
  ["ready", "source", "go", "committed"],
  ["committed", "destination", "running", "running"],
  ["running", "source", "goodbye", "done"],
];

/**
 * Ways out. Until `go` either side may abort or fail. After it the source can neither take the guest back nor abort; its
 * `error` then says only that it cannot read the destination. After `running` the destination has had its last word.
 */
function wayOut(state: ConversationState): Row[] {
  const rows: Row[] = [];
  if (state === "done" || state === "failed") return rows;
  if (state !== "committed" && state !== "running") rows.push([state, "source", "abort", "failed"]);
  rows.push([state, "source", "error", "failed"]);
  if (state === "greeting" || state === "running") return rows;
  return [...rows, [state, "destination", "abort", "failed"], [state, "destination", "error", "failed"]];
}

/** Both sides may break a silence once they share a version. */
function keepalives(state: ConversationState): Row[] {
  if (state === "greeting" || state === "greeted" || state === "done" || state === "failed") return [];
  return [
    [state, "source", "keepalive", state],
    [state, "destination", "keepalive", state],
  ];
}

export const legalMessages: readonly LegalMessage[] = conversationStates.flatMap((state) =>
  [...progress.filter((row) => row[0] === state), ...wayOut(state), ...keepalives(state)].map(
    ([from, sender, kind, next]) => ({ state: from, sender, kind, next }),
  ),
);

const nextByMove = new Map<string, ConversationState>(
  legalMessages.map(({ state, sender, kind, next }) => [`${state} ${sender} ${kind}`, next]),
);

/** The state after `sender` has sent `kind` in `state`, or undefined when that is not legal. */
export function nextState(state: ConversationState, sender: Role, kind: MessageKind): ConversationState | undefined {
  return nextByMove.get(`${state} ${sender} ${kind}`);
}

/** What `sender` may send in `state`. */
export function legalKinds(state: ConversationState, sender: Role): MessageKind[] {
  return legalMessages.filter((row) => row.state === state && row.sender === sender).map((row) => row.kind);
}
