// A device as the vfio-user server serves it: a PCI function that can be reset, stopped, saved and restored.
import type { PciFunction } from "../../../pci/function.ts";
import { decodeVfState, encodeVfState, VF_STATE_BYTES_MAX } from "../../../nic/state.ts";
import type { Vf82599 } from "../../../nic/vf82599.ts";

/** What the migration half of the protocol asks of a device. */
export interface MovableDevice {
  /** More than any saved state has. */
  readonly stateBytesMax: number;
  /** From now on no DMA, no message, no frame; what was begun is finished and in memory. */
  stop(): void;
  start(): void;
  /** The whole state, without RAM. Only while stopped. */
  save(): Uint8Array;
  /** Becomes the saved device, stopped. Throws OperationError if the bytes are not such a state. */
  restore(state: Uint8Array): void;
}

export interface ServedDevice {
  readonly pci: PciFunction;
  readonly migration: MovableDevice;
  /** Conventional reset: as after power-on, and running. */
  reset(): void;
}

/** The VF as a served device. */
export function servedVf(vf: Vf82599): ServedDevice {
  return {
    pci: vf,
    migration: {
      stateBytesMax: VF_STATE_BYTES_MAX,
      stop: () => vf.stop(),
      start: () => vf.start(),
      save: () => encodeVfState(vf.save()),
      restore: (state) => vf.restore(decodeVfState(state)),
    },
    reset: () => vf.reset(),
  };
}
