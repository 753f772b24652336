// The guests that are moved in the tests of the engine, and the orders of moving that ship.
import { SeededRandom } from "../../src/base/random.ts";
import { fullSizeOptions, toyOptions, type ModelHostOptions } from "../../src/machine/model/host.ts";
import { strategies } from "../../src/strategy/strategies.ts";
import { landingBy } from "./world.ts";

/** Each for a seed, since some choose as they go. */
export const guestKinds = {
  toy: () => toyOptions,
  "a toy whose device's writes are in flight for a while": (seed: number) => ({
    ...toyOptions,
    prefetchDescriptors: 8,
    landing: landingBy(new SeededRandom(seed)),
  }),
  "a toy with a buffer to a page and head write-back": () => ({
    ...toyOptions,
    memoryBytes: 8192,
    headWriteBack: true,
    buffersPerPage: 1,
    bufferUnitBytes: 64,
  }),
  "a toy with two queues and late reports": () => ({
    ...toyOptions,
    memoryBytes: 32_768,
    queuePairs: 2,
    prefetchDescriptors: 4,
    transmitReportEvery: 3,
  }),
  "a toy behind an IOMMU with a driver that never unmaps": () => ({ ...toyOptions, iommu: true }),
  "a toy behind an IOMMU with a strict driver": () => ({ ...toyOptions, iommu: true, unmap: "strict" }),
  "a toy behind an IOMMU with a lazy driver": () => ({ ...toyOptions, iommu: true, unmap: "lazy", unmapBatch: 4 }),
  "a guest of full-size pages": () => fullSizeOptions,
} as const satisfies Record<string, (seed: number) => ModelHostOptions>;
export type GuestKind = keyof typeof guestKinds;

/** Kept to be found out: those that ask the driver for help, and the one that does nothing about DMA. */
export const specimens = strategies.filter(({ expectedVerdict }) => expectedVerdict === "unsafe");
export const shippedStrategies = strategies.filter((strategy) => !specimens.includes(strategy));
