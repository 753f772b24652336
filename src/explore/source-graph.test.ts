import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultAssumptions, defaultBounds } from "./assumptions.ts";
import { experimentOf } from "./schedule.ts";
import { pageOutside, SourceGraph } from "./source-graph.ts";
import { SourceVm } from "./source-vm.ts";
import { Actor, ACTORS_MAX } from "./steps.ts";

const question = { strategy: "rings-first", assumptions: defaultAssumptions, bounds: { ...defaultBounds, frames: 2 } };

test("a state that was left is reached again by its path, and goes on as it did", () => {
  const experiment = experimentOf(question);
  const graph = new SourceGraph(experiment);
  const vm = new SourceVm(experiment);
  const states = [0];
  for (const state of states) {
    for (let actor = 0; actor < ACTORS_MAX; actor++) {
      const next = graph.next(state, actor);
      if (next >= 0 && !states.includes(next)) states.push(next);
    }
  }
  for (const state of states) {
    vm.reset();
    for (const step of graph.path(state)) assert.ok(vm.act(step), `step ${step} on the way to ${state}`);
    const memory = vm.host.machine.memory.bytes();
    for (let page = 0; page < graph.pageCount; page++) {
      const content = graph.contents.value(graph.content(state, page));
      assert.deepEqual(memory.subarray(page * graph.pageBytes, (page + 1) * graph.pageBytes), content);
    }
  }
  assert.ok(states.length > 100);
});

test("a device that writes where nothing is mapped for it is noticed", () => {
  const graph = new SourceGraph(experimentOf(question));
  const next = graph.next(0, Actor.receive);
  const written = graph.changedPages(0, next);
  assert.equal(graph.wildWrite, undefined);
  assert.equal(pageOutside(written, graph.tracker(0)), undefined);
  const without = graph.tracker(0).mapped.filter((page) => !written.includes(page));
  assert.equal(pageOutside(written, { mapped: without, ringPages: [] }), written[0]);
});
