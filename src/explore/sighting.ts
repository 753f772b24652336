// What can be seen of a source between two steps: its guest, its VF, and what is on its way between device and memory.
import { tagIndex, tagPurpose, tagQueue, type DmaPurpose } from "../iommu/dma-port.ts";
import type { ModelHost } from "../machine/model/host.ts";
import { decodeState, type ModelState } from "../machine/model/state.ts";
import type { VfState } from "../nic/state.ts";
import type { VfStatistics } from "../nic/vf-statistics.ts";

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
export function sight(host: ModelHost): Sighting {
  const { machine, vf, posted, sent } = host;
  const wasPaused = machine.isPaused;
  void machine.pause();
  const guest = decodeState(machine.saveState(), machine.layout);
  if (!wasPaused) void machine.resume();
  return {
    guest,
    vf: posted === undefined ? vf.save() : posted.held(() => vf.save()),
    statistics: vf.statistics,
    inFlight: (posted?.inFlight ?? []).map(({ iova, tag, bytes, words }) =>
      deviceWrite(iova, tag, bytes ?? new Uint8Array((words ?? new Uint32Array()).slice().buffer)),
    ),
    framesSent: sent.length,
  };
}

function deviceWrite(address: number, tag: number, bytes: Uint8Array): DeviceWrite {
  return { purpose: tagPurpose(tag), queue: tagQueue(tag), descriptor: tagIndex(tag), address, bytes: bytes.slice() };
}

/** Gathers the writes that reach a host's memory, from now on; `take` gives those since it was last called. */
export class LandingWatch {
  #landed: DeviceWrite[] = [];

  constructor({ dma, machine }: ModelHost) {
    dma.addObserver({
      after: (address, length, tag) => {
        this.#landed.push(deviceWrite(address, tag, machine.memory.bytes().subarray(address, address + length)));
      },
    });
  }

  take(): DeviceWrite[] {
    const landed = this.#landed;
    this.#landed = [];
    return landed;
  }
}
