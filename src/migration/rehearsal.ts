// Does once, while the guest still runs, what will be done while it stands still.
import { decodeVfState, encodeVfState } from "../nic/state.ts";
import type { ArrivingVf, MigratableVm } from "./parts.ts";
import { RingCopy } from "./ring-copy.ts";

/** Rounds after which the host's compiler has had its say. */
const ROUNDS = 3;

/**
 * A switchover is code that runs once, and a host that compiles as it goes would compile it while the guest is dark:
 * measured, that made reading the rings take 15 ms instead of 2. What is rehearsed only reads; its result is dropped.
 */
export function rehearseSwitchover(vm: MigratableVm): void {
  for (let round = 0; round < ROUNDS; round++) {
    const state = vm.vf.save();
    const rings = new RingCopy(vm);
    rings.begin(state);
    while (rings.step());
    rings.cut();
    rings.forEachPage(() => {});
    encodeVfState(state);
  }
}

/** The same for the destination's VF, which holds nothing yet and is left stopped, as `restore` leaves it. */
export function rehearseArrival(vf: ArrivingVf): void {
  for (let round = 0; round < ROUNDS; round++) vf.restore(decodeVfState(encodeVfState(vf.save())));
}
