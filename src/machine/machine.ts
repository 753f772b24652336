// The Machine: CPU, RAM and platform of one VM, and a slot for one VF. Nothing above asks which machine it is.
import type { CpuDirtyLog } from "../memory/dirty-log.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { MessageSink, PciFunction } from "../pci/function.ts";

export const machineKinds = ["linux", "model", "qemu"] as const;
export type MachineKind = (typeof machineKinds)[number];

/**
 * The pause contract. After `pause()` resolves no vCPU executes an instruction and no timer of the platform fires
 * until `resume()`; guest RAM changes by DMA only. The VF is not the machine's: it goes on receiving and writing.
 * Interrupts it raises meanwhile are held and taken after `resume()`. Both are idempotent.
 */
export interface Machine {
  readonly kind: MachineKind;
  readonly memory: GuestMemory;
  readonly cpuDirtyLog: CpuDirtyLog;
  /** Where the VF's MSI-X messages go. */
  readonly interrupts: MessageSink;
  /** Plugs the function into the machine's slot; once, before the guest runs or its state is restored. */
  attach(pciFunction: PciFunction): void;
  pause(): Promise<void>;
  resume(): Promise<void>;
  readonly isPaused: boolean;
  /** CPU and platform state without RAM and without the VF, versioned. Only while paused. */
  saveState(): Uint8Array;
  /**
   * Loads what saveState gave; RAM is loaded before, the VF afterwards, by others. Fails with OperationError
   * `machine-state-invalid`; a promise where the machine is in another process.
   */
  restoreState(state: Uint8Array): void | Promise<void>;
  /** Ends the machine and frees what it holds; it cannot be used afterwards. */
  close(): Promise<void>;
}

/** A machine whose guest has a console of text lines. */
export interface Console {
  /** Text the guest wrote since the machine was made, or since state was restored. */
  readonly output: string;
  send(text: string): void;
  onOutput(listener: (text: string) => void): () => void;
}
