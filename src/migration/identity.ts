// Names by which the two sides of a migration know that they speak of the same things.
import type { VfState } from "../nic/state.ts";

export const PROGRAM = "underway";
/** The device model whose state travels. */
export const VF_MODEL: VfState["device"] = "82599-vf";
