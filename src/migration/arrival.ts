// What happens to the destination's VF between its state and the guest's first instruction there.
import { unreachable } from "../base/assert.ts";
import { RXDCTL_ENABLE, TXDCTL_ENABLE } from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import type { DeviceResume } from "../strategy/strategy.ts";
import type { ArrivingVf } from "./parts.ts";

/**
 * Makes a restored, stopped VF ready for the guest to resume, and gives the state to judge the move by. With `start-over`
 * that is the VF after the PF's reset. With `head-zero` it is the one before, whose heads the driver turns its rings by;
 * only that the VF will not owe the end of a frame any more, since the driver's reset makes it forget.
 */
export function makeReady(vf: ArrivingVf, resume: DeviceResume, restored: VfState): VfState {
  switch (resume) {
    case "as-saved":
    case "head-from-cut":
      return restored;
    case "start-over":
      vf.pfReset();
      return vf.save();
    case "head-zero":
      // Disabled before the reset: a PF that resets a queue at work leaves a transmit head that looks hung.
      vf.restore(withQueuesOff(restored));
      vf.pfReset();
      return withoutOwedEnds(restored);
    default:
      return unreachable(resume);
  }
}

function withQueuesOff(state: VfState): VfState {
  const { registers } = state;
  const without = (name: string, bit: number): number[] => (registers[name] ?? []).map((value) => value & ~bit);
  const controls = { VFRXDCTL: without("VFRXDCTL", RXDCTL_ENABLE), VFTXDCTL: without("VFTXDCTL", TXDCTL_ENABLE) };
  return { ...state, registers: { ...registers, ...controls } };
}

function withoutOwedEnds(state: VfState): VfState {
  const queues = state.receive.queues.map((queue) => ({ ...queue, frameInProgress: false }));
  return { ...state, receive: { ...state.receive, queues } };
}
