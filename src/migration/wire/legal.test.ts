// The table of legal messages: what it must say for exactly one side to run the guest.
import assert from "node:assert/strict";
import { test } from "node:test";
import { messageNumbers } from "./frame.ts";
import { conversationStates, legalKinds, legalMessages, nextState, type ConversationState } from "./legal.ts";

const waysOut = new Set(["abort", "error"]);

test("nothing follows the final states, and every state can be reached", () => {
  const reached = new Set<ConversationState>(["greeting"]);
  for (const { next } of legalMessages) reached.add(next);
  assert.deepEqual(
    conversationStates.filter((state) => !reached.has(state)),
    [],
  );
  for (const state of ["done", "failed"] as const) {
    assert.deepEqual([...legalKinds(state, "source"), ...legalKinds(state, "destination")], []);
  }
});

test("every message is legal somewhere, and no row is said twice", () => {
  const kinds = new Set(legalMessages.map((row) => row.kind));
  assert.deepEqual([...kinds].toSorted(), Object.keys(messageNumbers).toSorted());
  const moves = legalMessages.map(({ state, sender, kind }) => `${state} ${sender} ${kind}`);
  assert.equal(new Set(moves).size, moves.length);
});

test("in every state only one side may change it other than by giving up, so both see one order", () => {
  for (const state of conversationStates) {
    const movers = legalMessages.filter(
      (row) => row.state === state && !waysOut.has(row.kind) && row.kind !== "keepalive",
    );
    assert.ok(new Set(movers.map((row) => row.sender)).size <= 1, `both sides may move in ${state}`);
  }
});

test("only the source's go commits, and only from a destination that has loaded everything", () => {
  const commits = legalMessages.filter((row) => row.next === "committed" && row.kind !== "keepalive");
  assert.deepEqual(commits, [{ state: "ready", sender: "source", kind: "go", next: "committed" }]);
});

test("after go the source cannot abort, and after running the destination cannot take its word back", () => {
  assert.equal(nextState("committed", "source", "abort"), undefined);
  assert.equal(nextState("running", "source", "abort"), undefined);
  assert.equal(nextState("running", "destination", "abort"), undefined);
  assert.equal(nextState("running", "destination", "error"), undefined);
  assert.equal(nextState("committed", "destination", "error"), "failed");
});
