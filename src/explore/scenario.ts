// The guest that is explored and its frames, made from assumptions and bounds: shipping code at toy scale.
import type { ModelHostOptions } from "../machine/model/host.ts";
import type { ProvenFrame } from "../machine/model/frames.ts";
import type { Strategy } from "../strategy/strategy.ts";
import type { Assumptions, Bounds } from "./assumptions.ts";

export interface FrameToCome extends ProvenFrame {
  readonly lengthBytes: number;
}

export interface Scenario {
  readonly host: Omit<ModelHostOptions, "landing">;
  /** Frames that came and went before: they move the ring's head away from 0 and leave their marks in old descriptors. */
  readonly warmUp: readonly FrameToCome[];
  /** Frames in the VF's packet buffer when the search begins, in their order. */
  readonly frames: readonly FrameToCome[];
  /** The application does so many steps of its own (it writes its memory and sends); reading frames is never limited. */
  readonly applicationSteps: number;
}

const SHORT_BYTES = 60;
/** Takes one descriptor more than a short frame. */
const LONG_BYTES = 100;

/** Rings of one, two or three pages: a ring has a multiple of 8 descriptors, and a descriptor 16 bytes. */
const rings: Readonly<Record<number, { readonly pageBytes: number; readonly descriptors: number }>> = {
  1: { pageBytes: 128, descriptors: 8 },
  2: { pageBytes: 64, descriptors: 8 },
  3: { pageBytes: 128, descriptors: 24 },
};

export function scenarioOf(strategy: Strategy, assumptions: Assumptions, bounds: Bounds): Scenario {
  const { pageBytes, descriptors } = rings[assumptions.ringPages] ?? { pageBytes: 64, descriptors: 8 };
  const { queues, iommu } = assumptions;
  const frame = (sequence: number, flow: number, lengthBytes: number): FrameToCome => ({ flow, sequence, lengthBytes });
  // A ring of 8 has 7 posted; with half of it used before, the frames to come go over its end.
  const descriptorsPerFrame = assumptions.sharedPages ? 2 : 1;
  const warmUp = Math.floor((descriptors * bounds.head) / 8 / descriptorsPerFrame);
  const bufferBytes = assumptions.sharedPages ? pageBytes / 2 : 64;
  return {
    host: {
      pageBytes,
      memoryBytes: pageBytes * pagesFor(descriptors, queues),
      queuePairs: queues,
      receiveDescriptors: descriptors,
      transmitDescriptors: 8,
      bufferUnitBytes: bufferBytes,
      buffersPerPage: assumptions.sharedPages || pageBytes > 64 ? 2 : 1,
      refillBatch: 4,
      pollBudget: 3,
      headerBytes: 16,
      socketFrames: 4,
      applicationPages: 1,
      packetBufferBytes: 1024,
      prefetchDescriptors: assumptions.prefetch,
      descriptorWriteRelaxedOrdering: assumptions.relaxedDescriptors,
      cooperation: strategy.cooperation,
      ...(iommu === "none" ? {} : { iommu: true, unmap: iommu, unmapBatch: 2 }),
    },
    warmUp: Array.from({ length: warmUp * queues }, (_, i) => frame(Math.floor(i / queues), i % queues, SHORT_BYTES)),
    frames: Array.from({ length: bounds.frames }, (_, i) =>
      frame(warmUp + Math.floor(i / queues), i % queues, i === 1 ? LONG_BYTES : SHORT_BYTES),
    ),
    applicationSteps: bounds.application,
  };
}

/** Rings twice (the driver may move them), the application's page, and what the page allocator wants. */
function pagesFor(descriptors: number, queues: number): number {
  const pool = queues * (descriptors + 8) + 2 * 4;
  return 2 ** Math.ceil(Math.log2(pool + 30 * queues));
}
