// What can be seen of a source between two steps: its guest, its VF, and what is on its way between device and memory.
import { tagIndex, tagPurpose, tagQueue, type DmaPurpose } from "../iommu/dma-port.ts";
import { decodeState, type ModelState } from "../machine/model/state.ts";
import type { VfState } from "../nic/state.ts";
import type { VfStatistics } from "../nic/vf-statistics.ts";
import type { SourceVm } from "./source-vm.ts";

/** A write of the device, landed or on its way. */
export interface DeviceWrite {
  readonly purpose: DmaPurpose;
  readonly queue: number;
  readonly descriptor: number;
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface Sighting {
  readonly guest: ModelState;
  readonly vf: VfState;
  readonly statistics: VfStatistics;
  /** Oldest first. */
  readonly inFlight: readonly DeviceWrite[];
  /** Frames that the VF sent into the network. */
  readonly framesSent: number;
}

/** Leaves everything as it was: a guest that runs, runs on. */
export function sight(source: SourceVm): Sighting {
  const { machine, vf, posted, sent } = source.host;
  const wasPaused = machine.isPaused;
  void machine.pause();
  const guest = decodeState(machine.saveState(), machine.layout);
  if (!wasPaused) void machine.resume();
  return {
    guest,
    vf: source.lookAtVf(),
    statistics: vf.statistics,
    inFlight: (posted?.inFlight ?? []).map(({ iova, tag, bytes, words }) =>
      deviceWrite(iova, tag, bytes ?? new Uint8Array((words ?? new Uint32Array()).slice().buffer)),
    ),
    framesSent: sent.length,
  };
}

export function deviceWrite(address: number, tag: number, bytes: Uint8Array): DeviceWrite {
  return { purpose: tagPurpose(tag), queue: tagQueue(tag), descriptor: tagIndex(tag), address, bytes: bytes.slice() };
}
