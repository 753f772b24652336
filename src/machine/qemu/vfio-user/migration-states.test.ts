// The arcs and ways of VFIO's migration states, for every pair of states.
import assert from "node:assert/strict";
import { test } from "node:test";
import { arcs, DeviceState, isDeviceState, wayBetween } from "./migration-states.ts";

const { stop, running, stopCopy, resuming, runningP2p, preCopy, preCopyP2p } = DeviceState;
const states = Object.values(DeviceState);
/** Columns of the table below. */
const columns = [stop, running, preCopy, preCopyP2p, stopCopy, resuming, runningP2p] as const;
const none = undefined;
const p2p = runningP2p;

/** First step from the row's state to the column's: vfio_from_fsm_table of Linux's drivers/vfio/vfio_main.c. */
const firstSteps: readonly (readonly [DeviceState, readonly (DeviceState | undefined)[]])[] = [
  [stop, [none, p2p, p2p, p2p, stopCopy, resuming, p2p]],
  [running, [p2p, none, preCopy, p2p, p2p, p2p, p2p]],
  [preCopy, [running, running, none, preCopyP2p, preCopyP2p, running, running]],
  [preCopyP2p, [p2p, p2p, preCopy, none, stopCopy, p2p, p2p]],
  [stopCopy, [stop, stop, DeviceState.error, DeviceState.error, none, stop, stop]],
  [resuming, [stop, stop, stop, stop, stop, none, stop]],
  [runningP2p, [stop, running, running, preCopyP2p, stop, stop, none]],
];

test("the first step of the way between any two states is the one of Linux's table", () => {
  for (const [from, row] of firstSteps) {
    for (const [column, expected] of row.entries()) {
      const to = columns[column] as DeviceState;
      const way = wayBetween(from, to);
      const first = way === undefined ? DeviceState.error : way[0];
      assert.equal(first, expected, `from ${from} to ${to}`);
    }
  }
});

test("every way goes along arcs, ends where it should, and visits no state twice", () => {
  for (const from of states) {
    for (const to of states) {
      const way = wayBetween(from, to);
      if (way === undefined) continue;
      const visited = [from, ...way];
      assert.equal(visited.at(-1), to);
      assert.equal(new Set(visited).size, visited.length);
      for (const [i, next] of way.entries()) assert.ok(arcs.get(visited[i] as DeviceState)?.includes(next));
    }
  }
});

test("there are fifteen arcs", () => {
  assert.equal([...arcs.values()].flat().length, 15);
});

test("no way leads into ERROR, out of it, or from STOP_COPY back to saving while running", () => {
  for (const state of states) {
    assert.equal(wayBetween(state, DeviceState.error), undefined);
    assert.equal(wayBetween(DeviceState.error, state), undefined);
  }
  assert.equal(wayBetween(stopCopy, preCopy), undefined);
  assert.equal(wayBetween(stopCopy, preCopyP2p), undefined);
});

test("a number is a state from 0 to 7 only", () => {
  for (const value of [-1, 0.5, 8, 0xffff_ffff, NaN]) assert.equal(isDeviceState(value), false);
  for (const value of states) assert.equal(isDeviceState(value), true);
});
