import assert from "node:assert/strict";
import { test } from "node:test";
import { ModelHost, toyOptions } from "../machine/model/host.ts";
import { RXDCTL_ENABLE, TXDCTL_ENABLE, VFRDH, VFRXDCTL, VFTDH, VFTXDCTL } from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import { makeReady } from "./arrival.ts";

/** A VF in the middle of its rings. */
async function savedVf(): Promise<VfState> {
  const host = new ModelHost(toyOptions);
  await host.boot();
  for (let sequence = 0; sequence < 3; sequence++) host.offer({ flow: 0, sequence }, 100);
  host.settle();
  host.runApplication(30);
  host.vf.stop();
  return host.vf.save();
}

const saved = await savedVf();
const heads = [saved.registers["VFRDH"]?.[0], saved.registers["VFTDH"]?.[0]];

function arrived(resume: Parameters<typeof makeReady>[1]): { host: ModelHost; takenOver: VfState } {
  const host = new ModelHost(toyOptions);
  host.vf.restore(saved);
  return { host, takenOver: makeReady(host.vf, resume, saved) };
}

test("a VF that resumes as saved, or at the cut, is left as its state made it", () => {
  assert.ok(
    heads.every((head) => head !== undefined && head > 0),
    "the heads are somewhere in the rings",
  );
  for (const resume of ["as-saved", "head-from-cut"] as const) {
    const { host, takenOver } = arrived(resume);
    assert.equal(takenOver, saved);
    assert.deepEqual(host.vf.save().registers, saved.registers);
  }
});

test("a VF that starts over has its queues off, and the state it is judged by is that of after the reset", () => {
  const { host, takenOver } = arrived("start-over");
  assert.deepEqual(takenOver, host.vf.save());
  assert.equal(host.vf.readBar(0, VFRXDCTL(0), 4) & RXDCTL_ENABLE, 0);
  assert.notEqual(host.vf.readBar(0, VFTDH(0), 4), heads[1], "transmit looks hung");
});

test("a VF whose driver turns its rings has its queues off and shows the heads to turn them by until it is reset", () => {
  const { host, takenOver } = arrived("head-zero");
  assert.deepEqual(takenOver, saved);
  assert.equal(host.vf.readBar(0, VFRXDCTL(0), 4) & RXDCTL_ENABLE, 0);
  assert.equal(host.vf.readBar(0, VFTXDCTL(0), 4) & TXDCTL_ENABLE, 0);
  assert.deepEqual([host.vf.readBar(0, VFRDH(0), 4), host.vf.readBar(0, VFTDH(0), 4)], heads);
  host.offer({ flow: 0, sequence: 9 }, 100);
  host.vf.start();
  host.vf.run();
  assert.deepEqual([host.vf.readBar(0, VFRDH(0), 4), host.vf.readBar(0, VFTDH(0), 4)], heads);
});

test("a VF whose driver resets it does not owe the end of a frame it was in", () => {
  const queues = saved.receive.queues.map((queue) => ({ ...queue, frameInProgress: true }));
  const inFrame = { ...saved, receive: { ...saved.receive, queues } };
  const host = new ModelHost(toyOptions);
  for (const [resume, owes] of [
    ["as-saved", true],
    ["head-zero", false],
  ] as const) {
    host.vf.restore(inFrame);
    const { receive } = makeReady(host.vf, resume, inFrame);
    assert.ok(receive.queues.every(({ frameInProgress }) => frameInProgress === owes));
  }
});
