// The source's side of a migration: rounds while the guest runs, the switchover, and the hand-over; or back to running.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { encodeVfState, VF_STATE_VERSION } from "../nic/state.ts";
import type { Command, Strategy } from "../strategy/strategy.ts";
import type { MigrationEvent, MigrationEventSink, MigrationPhase } from "./events.ts";
import { PROGRAM, VF_MODEL } from "./identity.ts";
import { PageLogs } from "./page-logs.ts";
import { PageSender } from "./page-sender.ts";
import { PartTimer, partOfCommand } from "./part-timer.ts";
import type { MigratableVm } from "./parts.ts";
import { resumeState } from "./resume-state.ts";
import { rehearseSwitchover } from "./rehearsal.ts";
import { Rounds } from "./rounds.ts";
import { Switchover } from "./switchover.ts";
import { Conversation } from "./wire/conversation.ts";
import { helloFrom } from "./wire/negotiate.ts";
import type { MigrationId, Offer } from "./wire/protocol.ts";
import type { Transport } from "./wire/transport.ts";

export interface SourceLimits {
  /** Switch over once this much downtime is expected. */
  readonly downtimeLimitMs: number;
  /** Rounds before a decision is forced, the first one included. */
  readonly roundsMax: number;
  readonly ifNotConverging: "switch-over" | "give-up";
}

export interface SourceOptions {
  readonly vm: MigratableVm;
  readonly strategy: Strategy;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly migrationId: MigrationId;
  /** For the offer: who the VF is. */
  readonly mac: string;
  readonly machineStateVersion: number;
  /** See Offer; left out by machines that need no preparation. */
  readonly machineHint?: string;
  readonly limits: SourceLimits;
  readonly onEvent: MigrationEventSink;
  /** Lets the guest and the device have the thread; called between batches. */
  readonly yieldToGuest: () => Promise<void>;
  /** Called between any two atomic steps of the switchover: the place of the race injector. */
  readonly betweenSteps?: () => void;
  /** Cancels: the source resumes, unless `go` was already said. A reason that is an OperationError is the outcome's. */
  readonly signal?: AbortSignal;
  /** Calls back about once a second until told to stop; keeps the link alive and notices a silent peer. */
  readonly everySecond: (callback: (nowMs: number) => void) => () => void;
}

export type SourceOutcome =
  /** The destination runs the guest; the source's machine stays paused and is the caller's to close. */
  | { readonly kind: "completed" }
  /** The source runs on with a working NIC. */
  | { readonly kind: "resumed"; readonly error: OperationError }
  /** `go` was said and no answer came: neither side may be resumed until the destination's outcome is known. */
  | {
      readonly kind: "outcome-unknown";
      readonly error: OperationError;
      /** Takes the guest back; only once the destination was heard to have discarded it. */
      readonly takeBack: () => Promise<void>;
    };

const STATE_PART_BYTES = 1 << 20;

/** Moves a guest out. Never throws for what a peer, a link or a canceller does: the outcome says what became of the guest. */
export function migrateOut(options: SourceOptions): Promise<SourceOutcome> {
  return new SourceMigration(options).run();
}

class SourceMigration {
  readonly #options: SourceOptions;
  readonly #conversation: Conversation;
  readonly #sender: PageSender;
  readonly #logs: PageLogs;
  readonly #rounds: Rounds;
  #goSaid = false;
  #deviceTouched = false;
  #failure: OperationError | undefined;

  constructor(options: SourceOptions) {
    const { vm, strategy, transport } = options;
    this.#options = options;
    this.#conversation = new Conversation({
      role: "source",
      transport,
      onEnd: (error) => {
        this.#failure ??= error;
      },
    });
    this.#sender = new PageSender(this.#conversation, vm.machine.memory);
    this.#logs = new PageLogs(vm);
    this.#rounds = new Rounds(vm, strategy, this.#logs);
  }

  async run(): Promise<SourceOutcome> {
    const { everySecond, signal } = this.#options;
    const stopTicking = everySecond((nowMs) => this.#conversation.tick(nowMs));
    const cancel = (): void => this.#cancel();
    signal?.addEventListener("abort", cancel);
    try {
      this.#phase("negotiate");
      this.#stopIfCancelled();
      await this.#negotiate();
      rehearseSwitchover(this.#options.vm);
      this.#phase("pre-copy");
      await this.#preCopy();
      await this.#switchOver();
      this.#phase("completed");
      return { kind: "completed" };
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      return await this.#afterFailure(thrown);
    } finally {
      stopTicking();
      signal?.removeEventListener("abort", cancel);
    }
  }

  async #negotiate(): Promise<void> {
    const { vm, strategy, migrationId, mac, machineStateVersion, machineHint } = this.#options;
    const { memory, kind } = vm.machine;
    await this.#conversation.send(helloFrom(PROGRAM));
    await this.#conversation.expect("hello-ack");
    const offer: Offer = {
      kind: "offer",
      migrationId,
      machine: kind,
      memoryBytes: memory.sizeBytes,
      pageBytes: memory.pages.sizeBytes,
      strategy: strategy.name,
      vfModel: VF_MODEL,
      vfStateVersion: VF_STATE_VERSION,
      machineStateVersion,
      queuePairs: vm.vf.queuePairs,
      mac,
      ...(machineHint === undefined ? {} : { machineHint }),
    };
    await this.#conversation.send(offer);
    await this.#conversation.expect("accept");
  }

  async #preCopy(): Promise<void> {
    const { limits } = this.#options;
    const rounds = this.#rounds;
    rounds.begin();
    for (;;) {
      await this.#sendRound();
      if (rounds.isSettled && rounds.expectedDowntimeMs <= limits.downtimeLimitMs) return;
      if (rounds.round < limits.roundsMax) continue;
      if (limits.ifNotConverging === "switch-over") return;
      throw this.#notConverging();
    }
  }

  #notConverging(): OperationError {
    const { round, dirtyPages, expectedDowntimeMs } = this.#rounds;
    const { downtimeLimitMs } = this.#options.limits;
    return new OperationError({
      code: "not-converging",
      message: `After ${round} rounds the guest still dirties memory faster than it can be sent.`,
      advice: "Allow a longer downtime, more bandwidth or more rounds, or ask to switch over anyway.",
      facts: { rounds: round, dirtyPages, expectedDowntimeMs: Math.round(expectedDowntimeMs), downtimeLimitMs },
    });
  }

  async #sendRound(): Promise<void> {
    const { clock, yieldToGuest } = this.#options;
    const sender = this.#sender;
    const startMs = clock.nowMs();
    const sending = this.#rounds.nextRound();
    const { round } = this.#rounds;
    const pagesTotal = sending.size;
    sender.beginRound(round);
    for (let page = sending.next(0); page >= 0; page = sending.next(page + 1)) {
      sender.memoryPage(page);
      if (!sender.isFull) continue;
      await sender.flush();
      this.#stopIfCancelled();
      const pagesDone = sender.pages + sender.zeroPages;
      this.#emit({ kind: "round-progress", round, pagesDone, pagesTotal, bytes: sender.bytes });
      await yieldToGuest();
    }
    await sender.flush();
    await yieldToGuest();
    this.#stopIfCancelled();
    await this.#endRound(startMs);
  }

  async #endRound(startMs: number): Promise<void> {
    const { pages, zeroPages, bytes } = this.#sender;
    const rounds = this.#rounds;
    const durationMs = this.#options.clock.nowMs() - startMs;
    rounds.endRound({ pages, zeroPages, bytes, durationMs });
    const { round, dirtyPages: dirtyAfter, expectedDowntimeMs } = rounds;
    await this.#conversation.send({ kind: "round-end", round, pages, zeroPages, dirtyAfter });
    this.#stopIfCancelled();
    const bytesPerSecond = (bytes / Math.max(durationMs, 0.001)) * 1000;
    this.#emit({
      kind: "round",
      summary: { round, pages, zeroPages, bytes, durationMs, dirtyAfter, bytesPerSecond, expectedDowntimeMs },
    });
  }

  async #switchOver(): Promise<void> {
    const { vm, strategy, clock } = this.#options;
    this.#phase("switchover");
    const round = this.#rounds.round + 1;
    this.#sender.beginRound(round);
    this.#deviceTouched = true;
    const parts = { vm, logs: this.#logs, owed: this.#rounds.owed(), target: this.#sender };
    const switchover = new Switchover(strategy, parts);
    const timer = new PartTimer(clock, (part, durationMs) => this.#emit({ kind: "downtime-part", part, durationMs }));
    for (let command = switchover.command; command !== undefined; command = switchover.command) {
      timer.enter(partOfCommand(command));
      await this.#carryOut(command, switchover);
    }
    const { pages, zeroPages } = this.#sender;
    await this.#conversation.send({ kind: "round-end", round, pages, zeroPages, dirtyAfter: 0 });
    timer.enter("saveState");
    await this.#sendState(switchover);
    this.#phase("hand-over");
    timer.enter("transfer");
    await this.#handOver(timer);
  }

  async #carryOut(command: Command, switchover: Switchover): Promise<void> {
    const { betweenSteps, yieldToGuest } = this.#options;
    while (switchover.command === command) {
      const pausing = switchover.step();
      if (pausing !== undefined) await pausing;
      if (switchover.command !== command) this.#tellOf(command, switchover);
      betweenSteps?.();
      if (this.#sender.isFull) {
        await this.#sender.flush();
        await yieldToGuest();
      }
      this.#throwIfFailed();
    }
    // What is gathered together may leave in any order, so a page that two commands send must not be gathered twice.
    await this.#sender.flush();
    this.#throwIfFailed();
  }

  #tellOf(command: Command, switchover: Switchover): void {
    if (command.kind === "pause-vcpus") this.#emit({ kind: "vcpus-paused" });
    if (command.kind === "stop-device") this.#emit({ kind: "device-stopped" });
    if (command.kind === "cut-rings" || command.kind === "drop-rings") {
      this.#emit({ kind: "cut", queues: switchover.cuts });
    }
  }

  async #sendState(switchover: Switchover): Promise<void> {
    const { vm, strategy } = this.#options;
    assert(switchover.deviceState !== undefined, `strategy ${strategy.name} never saves the device`);
    const state = resumeState(switchover.deviceState, strategy.resume, switchover.cuts);
    const vfBytes = encodeVfState(state);
    const machineBytes = vm.machine.saveState();
    await this.#sendParts("vf-state", vfBytes);
    await this.#sendParts("machine-state", machineBytes);
    await this.#conversation.send({
      kind: "end-of-state",
      machineStateBytes: machineBytes.length,
      vfStateBytes: vfBytes.length,
    });
  }

  async #sendParts(kind: "vf-state" | "machine-state", bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; offset += STATE_PART_BYTES) {
      const part = bytes.subarray(offset, offset + STATE_PART_BYTES);
      await this.#conversation.send({ kind, totalBytes: bytes.length, offset, bytes: part });
    }
  }

  async #handOver(timer: PartTimer): Promise<void> {
    const ready = await this.#conversation.expect("ready");
    this.#stopIfCancelled();
    timer.enter("resume");
    this.#goSaid = true;
    await this.#conversation.send({ kind: "go" });
    await this.#conversation.expect("running");
    timer.leave();
    this.#emit({ kind: "running" });
    for (const part of ["loadMachine", "loadDevice"] as const) {
      const durationMs = ready.partsMs[part];
      if (durationMs !== undefined) this.#emit({ kind: "downtime-part", part, durationMs });
    }
    await this.#conversation.send({ kind: "goodbye" });
    this.#conversation.close();
  }

  /** The guest is the source's again, unless the destination may already be running it. */
  async #afterFailure(error: OperationError): Promise<SourceOutcome> {
    this.#emit({ kind: "failed", code: error.code, message: error.message, facts: error.facts });
    const told = this.#conversation.peerGaveUp;
    if (!told) this.#conversation.fail(error);
    if (this.#goSaid && !told) {
      this.#phase("outcome-unknown");
      return { kind: "outcome-unknown", error, takeBack: () => this.#resumeHere() };
    }
    await this.#resumeHere();
    return { kind: "resumed", error };
  }

  async #resumeHere(): Promise<void> {
    const { vm } = this.#options;
    this.#logs.putBack();
    if (this.#deviceTouched) {
      vm.vf.start();
      await vm.machine.resume();
      vm.vf.raiseAllEnabled();
    }
    this.#phase("resumed");
  }

  #stopIfCancelled(): void {
    this.#throwIfFailed();
    const { signal } = this.#options;
    if (signal?.aborted === true) throw reasonOf(signal);
  }

  /** Whoever waits for the destination learns of it at once; whoever is busy looks at the next batch. */
  #cancel(): void {
    if (this.#goSaid || this.#failure !== undefined) return;
    this.#failure = reasonOf(this.#options.signal);
    const { code, message } = this.#failure;
    void this.#conversation.send({ kind: "abort", code, message });
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #phase(phase: MigrationPhase): void {
    this.#emit({ kind: "phase", phase });
  }

  #emit(event: DistributiveOmit<MigrationEvent, "atMs">): void {
    this.#options.onEvent({ atMs: this.#options.clock.nowMs(), ...event });
  }
}

/** Whoever aborts may say why. */
function reasonOf(signal: AbortSignal | undefined): OperationError {
  if (signal?.reason instanceof OperationError) return signal.reason;
  return new OperationError({
    code: "cancelled",
    message: "The migration was cancelled.",
    advice: "The guest goes on running on the source; start a new migration when you want to move it.",
  });
}

type DistributiveOmit<T, Key extends PropertyKey> = T extends unknown ? Omit<T, Key> : never;
