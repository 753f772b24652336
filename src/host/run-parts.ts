// What runs of every kind begin with: the guest's parts fetched, and passt if there is one to be had.
import { OperationError } from "../base/errors.ts";
import { defaultCacheDirectory } from "./assets/cache.ts";
import { prepareQemu, prepareQemuGuest } from "./assets-qemu.ts";
import { preparePasst, type PasstAsset } from "./assets.ts";
import type { QemuGuestKind } from "./qemu-guest.ts";
import type { MigrateOptions } from "./report.ts";

type OnStage = (text: string) => void;

/** Rejects with an OperationError that says what is missing. */
export async function prepareQemuKind(options: MigrateOptions, onStage: OnStage): Promise<QemuGuestKind> {
  const { assets: overrides, qemu } = options;
  const preparing = { cacheDirectory: defaultCacheDirectory(), onProgress: onStage };
  const program = await prepareQemu({ ...preparing, ...(qemu?.program === undefined ? {} : { qemu: qemu.program }) });
  const assets = await prepareQemuGuest({ ...preparing, overrides });
  return { machine: "qemu", qemu: program, assets, iommu: qemu?.iommu ?? "none" };
}

/** Undefined, and a word about it, where the machine has none: then there can be no download. */
export async function passtIfItCanBeHad(onStage: OnStage): Promise<PasstAsset | undefined> {
  try {
    return await preparePasst({ onProgress: onStage });
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
    onStage(`No download (${thrown.message}); verified echoes with the built-in peer take its place`);
    return undefined;
  }
}
