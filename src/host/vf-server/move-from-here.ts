// The source's side: the guest in the QEMU next door is moved to wherever a VF server expects it.
import { setTimeout as sleep } from "node:timers/promises";
import { unreachable } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import type { Transport } from "../../migration/wire/transport.ts";
import { strategyByName } from "../../strategy/strategies.ts";
import { moveOut } from "../move-out.ts";
import { connectTcp, type TcpAddress } from "../tcp-transport.ts";
import { connectTls, readTlsFiles, requireSafeLink } from "../tls-transport.ts";
import type { MoveResult } from "../vm-host-messages.ts";
import type { MoveEnd } from "./answers.ts";
import { attach, type AttachedJob, type JobGround, type JobWatcher } from "./job.ts";
import { checkSource } from "./preflight.ts";
import type { MoveRequest } from "./requests.ts";

/** The source's device runs until frames for the guest go elsewhere: at least this long after the guest does. */
const DEVICE_LINGER_MS = 100;

export interface MovedFromHere {
  readonly end: MoveEnd;
  /** After `outcome-unknown`: makes the guest run here again. Only for who knows that it runs nowhere else. */
  readonly takeBack: (() => Promise<void>) | undefined;
}

/** Rejects with an OperationError when nothing was begun; the guest then runs as before. */
export async function moveFromHere(
  ground: JobGround,
  request: MoveRequest,
  watcher: JobWatcher,
): Promise<MovedFromHere> {
  const strategy = strategyByName(request.strategy);
  if (!strategy.machines.includes("qemu")) throw notForQemu(request.strategy);
  const connect = connector(request);
  const job = await attach(ground, request, true, checkSource);
  try {
    watcher.onStage("Looking for the destination");
    // Better now than when QEMU has gone through all of memory.
    (await connect(request.to)).close();
    const moved = await move(ground, job, { request, connect, watcher });
    if (moved.takeBack === undefined) await job.release();
    return moved;
  } catch (thrown) {
    await job.release();
    throw thrown;
  }
}

function connector({ to, tls }: MoveRequest): (to: TcpAddress) => Promise<Transport> {
  requireSafeLink(to, tls);
  if (tls === undefined) return connectTcp;
  const identity = readTlsFiles(tls);
  return (address) => connectTls(address, identity);
}

interface Moving {
  readonly request: MoveRequest;
  readonly connect: (to: TcpAddress) => Promise<Transport>;
  readonly watcher: JobWatcher;
}

async function move(ground: JobGround, job: AttachedJob, moving: Moving): Promise<MovedFromHere> {
  const { request, connect, watcher } = moving;
  const { guest } = job;
  const { machine } = guest;
  // Memory that goes away reads as zeros: whatever is under way must not be believed from then on.
  const signal = AbortSignal.any([watcher.signal, ground.clientGone]);
  let result: MoveResult;
  try {
    watcher.onStage("QEMU goes through the guest's memory once");
    const machineHint = await prepare(job, signal);
    result = await moveOut({
      vm: guest,
      move: request,
      mac: ground.mac,
      machineStateVersion: guest.machineStateVersion,
      machineHint,
      onEvent: watcher.onEvent,
      signal,
      connect,
    });
  } catch (thrown) {
    await machine.resume().catch(() => {});
    throw ground.clientGone.aborted ? qemuGone() : watcher.signal.aborted ? cancelled() : thrown;
  }
  switch (result.kind) {
    case "completed":
      return { end: await letGo(ground, job, result.bytesSent), takeBack: undefined };
    case "resumed":
      // The engine resumes what it had stopped; QEMU's own migration is still to be ended.
      await machine.resume().catch((thrown: unknown) => {
        throw ground.clientGone.aborted ? qemuGone() : thrown;
      });
      if (ground.clientGone.aborted) throw qemuGone();
      return { end: { kind: "resumed", failure: result.failure }, takeBack: undefined };
    case "outcome-unknown":
      return { end: { kind: "outcome-unknown", failure: result.failure }, takeBack: () => takeBack(job) };
    default:
      return unreachable(result);
  }
}

/** The guest runs elsewhere: what its QEMU makes of that here, dead or alive, does not matter to it any more. */
async function letGo({ clientGone }: JobGround, { guest }: AttachedJob, bytesSent: number): Promise<MoveEnd> {
  const { machine, vf, tracker } = guest;
  const methods = { cpuDirtyLog: machine.cpuDirtyLog.method, tracker: tracker.method };
  await sleep(DEVICE_LINGER_MS);
  if (!clientGone.aborted) vf.stop();
  await guest.finishMove().catch(() => {});
  return { kind: "completed", bytesSent, methods };
}

/** The first pass takes as long as the guest is large, and ends early if QEMU is told to give its migration up. */
async function prepare({ guest, qmp }: AttachedJob, signal: AbortSignal): Promise<string | undefined> {
  const giveUp = (): void => void qmp.run("migrate_cancel").catch(() => {});
  signal.throwIfAborted();
  signal.addEventListener("abort", giveUp);
  try {
    const machineHint = await guest.prepareMove();
    signal.throwIfAborted();
    return machineHint;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

async function takeBack(job: AttachedJob): Promise<void> {
  const { machine, vf } = job.guest;
  vf.start();
  await machine.resume();
  vf.raiseAllEnabled();
  await job.release();
}

function notForQemu(strategy: string): OperationError<"strategy-not-for-qemu"> {
  return new OperationError({
    code: "strategy-not-for-qemu",
    message: `The strategy ${strategy} needs a driver that was changed for it, and a QEMU's guest has the stock one.`,
    advice: "See the machines of each strategy with `underway strategies`.",
    facts: { strategy },
  });
}

function cancelled(): OperationError<"cancelled"> {
  return new OperationError({
    code: "cancelled",
    message: "The migration was cancelled.",
    advice: "The guest goes on running on the source; start a new migration when you want to move it.",
  });
}

function qemuGone(): OperationError<"source-qemu-gone"> {
  return new OperationError({
    code: "source-qemu-gone",
    message: "The source's QEMU ended, or let go of the VF, while its guest was being moved.",
    advice:
      "See whether that QEMU still runs: its guest then goes on there, without this card. The destination has discarded what it had of it.",
  });
}
