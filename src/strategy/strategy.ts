// What a strategy is: pure data that says what to copy when, what to stop when, and how the VF comes back.
import type { MachineKind } from "../machine/machine.ts";
import type { Cooperation } from "../machine/model/cooperation.ts";

/** What happened to pages since it was last asked; asking clears it. */
export type PageLog =
  /** The CPU's dirty log. */
  | "cpu-dirty"
  /** The device's dirty log (VFIO DMA logging). */
  | "device-dirty"
  /** Pages the tracker saw the device give up since last asked. */
  | "released";

/** Where the engine learns that a page has to be sent (again). */
export type PageSource =
  | PageLog
  /** Pages the device may write now. */
  | "mapped"
  /** Pages of all descriptor rings and head write-backs, as plain pages. */
  | "rings";

/**
 * One order of the switchover. The engine owns I/O and carries the commands out one after the other; between two
 * atomic copies of any of them the device goes on, unless it was stopped.
 */
export type Command =
  /** The guest's CPUs stop. Its end is P, the moment the cut refers to. */
  | { readonly kind: "pause-vcpus" }
  /** The device stops fetching and writing, and its posted writes land. Frames that arrive are lost and counted. */
  | { readonly kind: "stop-device" }
  /** Transmit stops at a frame boundary with its write-backs landed; receive goes on. */
  | { readonly kind: "stop-transmit" }
  /** The VF's registers and hidden state are read now. */
  | { readonly kind: "save-device" }
  /**
   * Receive rings are read descriptor by descriptor, upper half first, against the order the device writes in.
   * What the image shows after the first descriptor that is not done, or after the last whole frame, is turned back
   * into posted descriptors; that descriptor becomes the head. Transmit rings are copied plainly.
   */
  | { readonly kind: "cut-rings" }
  /** Receive rings are sent without done descriptors; what they held is lost and counted. */
  | { readonly kind: "drop-rings" }
  /** Pages are sent. Pages that a cut or dropped ring covers are left out: they were sent by that command. */
  | { readonly kind: "copy"; readonly pages: readonly PageSource[] };

/** How the VF starts on the destination. */
export type DeviceResume =
  /** Registers as saved, heads included. */
  | "as-saved"
  /** Registers as saved, each receive head from the cut in the copied ring. */
  | "head-from-cut"
  /** Reset; the PF tells the driver to start over. */
  | "start-over"
  /** The same, with registers as saved until the driver resets the VF; the driver takes its rings along. */
  | "head-zero";

export type Need =
  /** A tracker of the pages the device may write: an emulated IOMMU, or shadowed descriptors. */
  | "tracker"
  /** A log of the pages the device wrote. */
  | "device-log"
  /** A driver that resets itself when the PF says so; the stock ixgbevf does. */
  | "driver-reset"
  /** A driver changed for migration. */
  | "cooperative-driver";

export interface Strategy {
  readonly name: string;
  /** One sentence: what it does. */
  readonly sentence: string;
  /** Where the idea comes from. */
  readonly source: string;
  /** What the explorer finds within its default bounds; a search that finds the other is news. */
  readonly expectedVerdict: "safe" | "unsafe";
  readonly needs: readonly Need[];
  /** What the guest's driver has to do for it: how a model guest is to be made. */
  readonly cooperation: Cooperation;
  readonly machines: readonly MachineKind[];
  /** What goes into each pre-copy round after the first; the first sends all of RAM. */
  readonly preCopy: readonly PageLog[];
  /** Mapped and ring pages are left out of pre-copy because the switchover sends them in any case. */
  readonly skipsMappedInPreCopy: boolean;
  readonly switchover: readonly Command[];
  readonly resume: DeviceResume;
}
