// What a guest must still be able to do: receive every frame, send, get its interrupts, and never see a wrong byte.
import assert from "node:assert/strict";
import type { ModelHost } from "../../src/machine/model/host.ts";
import type { World } from "./world.ts";

/** The guest has seen no wrong byte and no frame twice, and is alive. */
export function assertUnharmed(host: ModelHost, what: string): void {
  const { counters, panic } = host.machine;
  assert.equal(panic, undefined, what);
  const { corrupt, repeated, allocationFailures } = counters;
  assert.deepEqual({ corrupt, repeated, allocationFailures }, { corrupt: 0, repeated: 0, allocationFailures: 0 }, what);
}

/**
 * The sentence that says what does not work, or undefined. Frames are offered one by one, each after everybody has come
 * to rest, so that there is no excuse for losing any; then the application sends until its ring has gone round.
 */
export function trouble(world: World, host: ModelHost): string | undefined {
  const { machine } = host;
  host.runApplication(0);
  return (
    receivingTrouble(world, host) ?? sendingTrouble(host) ?? (machine.isIdle ? undefined : "the driver has no rest")
  );
}

function receivingTrouble(world: World, host: ModelHost): string | undefined {
  const { machine } = host;
  const received = (): number => machine.counters.verified + machine.counters.corrupt;
  for (let frame = 0; frame < 3 * machine.layout.receiveDescriptors; frame++) {
    const before = received();
    world.offerFrame(frame % world.flows);
    host.settle();
    if (received() !== before + 1) return `frame ${frame} offered at rest was not received`;
  }
  return undefined;
}

function sendingTrouble(host: ModelHost): string | undefined {
  const { machine } = host;
  const { transmitDescriptors, transmitReportEvery, queuePairs } = machine.layout;
  const before = { posted: machine.counters.sent, left: host.sent.length };
  host.runApplication(20 * transmitDescriptors);
  const posted = machine.counters.sent - before.posted;
  const left = host.sent.length - before.left;
  if (posted < transmitDescriptors / 2) return `only ${posted} frames could be posted`;
  if (left !== posted) return `${posted} frames were posted, ${left} left`;
  const { sent, completed, abandoned } = machine.counters;
  const owed = sent - completed - abandoned;
  if (owed >= transmitReportEvery * queuePairs) return `${owed} frames were never completed`;
  return host.sent.includes(undefined) ? "a frame left that the guest had not made like that" : undefined;
}

/** The guest was not harmed, and everything works; and still was not when it has. */
export function assertWorks(world: World, host: ModelHost, what: string): void {
  world.receiver = host;
  assert.equal(trouble(world, host), undefined, what);
  assertUnharmed(host, what);
}

/** How many of the guest's frames went out, from whichever host, and how many of them more than once. */
export function framesOnTheWire(hosts: readonly ModelHost[]): { onceOrMore: number; twiceOrMore: number } {
  const times = new Map<number, number>();
  for (const frame of hosts.flatMap((host) => host.sent)) {
    if (frame !== undefined) times.set(frame.sequence, (times.get(frame.sequence) ?? 0) + 1);
  }
  return { onceOrMore: times.size, twiceOrMore: [...times.values()].filter((count) => count > 1).length };
}
