// One piece of work for a controller: the QEMU it named, connected and checked, and a folder for the sockets in between.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { OperationError } from "../../base/errors.ts";
import type { Console } from "../../machine/machine.ts";
import type { DeviceChoice } from "../../machine/qemu/pci-query.ts";
import { connectQmp, type QmpClient } from "../../machine/qemu/qmp.ts";
import type { ServedVm, SharedParts } from "../../machine/qemu/served-vm.ts";
import type { MigrationEvent } from "../../migration/events.ts";
import { attachQemu, type AttachedQemu } from "../attached-qemu.ts";

/** Who is told how the work goes on. */
export interface JobWatcher {
  readonly onStage: (text: string) => void;
  readonly onEvent: (event: MigrationEvent) => void;
  readonly onListening: (address: { readonly host: string; readonly port: number }) => void;
  /** Aborted when the controller has had enough, or is gone. */
  readonly signal: AbortSignal;
}

/** What the work is done on. */
export interface JobGround {
  readonly served: ServedVm;
  readonly mac: string;
  /** Whether frames from the uplink reach the VF. */
  setReceiving(isReceiving: boolean): void;
  /** Sends a frame up the cable. */
  send(frame: Uint8Array): void;
  /** The VF's link as it really is, after a state from elsewhere came in. */
  showLink(): void;
  /** Aborted when the client, and with it the guest's memory, is gone. */
  readonly clientGone: AbortSignal;
}

/** The VF as ixgbevf knows it. */
const vfIds = { vendorId: 0x8086, deviceId: 0x10ed } as const;

/** Nobody is at this guest's console. */
const noConsole: Console = { output: "", send: () => {}, onOutput: () => () => {} };

export interface AttachedJob {
  readonly qmp: QmpClient;
  readonly guest: AttachedQemu;
  /** Lets go of the QEMU, which goes on as it is. */
  release(): Promise<void>;
}

/** Rejects with OperationError `memory-not-shared`, or as connectQmp and `check` do. */
export async function attach(
  { served }: JobGround,
  asked: { readonly qmp: string; readonly device?: string },
  isRunning: boolean,
  check: (qmp: QmpClient, memoryBytes: number) => Promise<void>,
): Promise<AttachedJob> {
  if (served.shared === undefined) throw notShared();
  const qmp = await connectQmp(asked.qmp);
  const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
  const release = async (): Promise<void> => {
    qmp.close();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const shared = stillShared(served);
    await check(qmp, shared.memory.sizeBytes);
    const device: DeviceChoice = asked.device === undefined ? vfIds : { ...vfIds, qdevId: asked.device };
    const parts = { served, shared: stillShared(served), qmp, device, directory, isRunning, console: noConsole };
    return { qmp, guest: attachQemu({ ...parts, close: async () => {} }), release };
  } catch (thrown) {
    await release();
    throw thrown;
  }
}

function stillShared({ shared }: ServedVm): SharedParts {
  if (shared === undefined) throw notShared();
  return shared;
}

function notShared(): OperationError<"memory-not-shared"> {
  return new OperationError({
    code: "memory-not-shared",
    message: "No QEMU that is connected to this VF shares its guest's memory with it.",
    advice:
      "Start QEMU with -object memory-backend-memfd,id=ram,size=…,share=on -machine q35,memory-backend=ram; `vf serve` says when its memory is shared.",
  });
}
