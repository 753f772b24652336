// The source's side of a migration: rounds while the guest runs, the switchover, and the hand-over; or back to running.
import { assert, unreachable } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { PageSet } from "../memory/page-set.ts";
import { encodeVfState, VF_STATE_VERSION, type VfState } from "../nic/state.ts";
import type { Command, PageSource, Strategy } from "../strategy/strategy.ts";
import type { DowntimePart, MigrationEvent, MigrationEventSink, MigrationPhase, QueueCut } from "./events.ts";
import { PROGRAM, VF_MODEL } from "./identity.ts";
import { DowntimeForecast } from "./forecast.ts";
import { PageSender } from "./page-sender.ts";
import type { MigratableVm } from "./parts.ts";
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
  readonly limits: SourceLimits;
  readonly onEvent: MigrationEventSink;
  /** Lets the guest and the device have the thread; called between batches. */
  readonly yieldToGuest: () => Promise<void>;
  /** Called between any two atomic steps of the switchover: the place of the race injector. */
  readonly betweenSteps?: () => void;
  /** Cancels: the source resumes, unless `go` was already said. */
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
  readonly #forecast: DowntimeForecast;
  readonly #dirty: PageSet;
  /** Everything taken out of the logs so far, for putting back. */
  readonly #fetched: Record<"cpu-dirty" | "released" | "device-dirty", PageSet>;
  #round = 0;
  #goSaid = false;
  #deviceTouched = false;
  #failure: OperationError | undefined;

  constructor(options: SourceOptions) {
    const { memory } = options.vm.machine;
    this.#options = options;
    this.#conversation = new Conversation({
      role: "source",
      transport: options.transport,
      onEnd: (error) => {
        this.#failure ??= error;
      },
    });
    this.#sender = new PageSender(this.#conversation, memory);
    this.#forecast = new DowntimeForecast(memory.pages.sizeBytes);
    const { count } = memory.pages;
    this.#dirty = new PageSet(count);
    this.#fetched = {
      "cpu-dirty": new PageSet(count),
      released: new PageSet(count),
      "device-dirty": new PageSet(count),
    };
  }

  async run(): Promise<SourceOutcome> {
    const { everySecond, signal } = this.#options;
    const stopTicking = everySecond((nowMs) => this.#conversation.tick(nowMs));
    const cancel = (): void => this.#cancel();
    signal?.addEventListener("abort", cancel);
    try {
      this.#phase("negotiate");
      await this.#negotiate();
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
    const { vm, strategy, migrationId, mac, machineStateVersion } = this.#options;
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
    };
    await this.#conversation.send(offer);
    await this.#conversation.expect("accept");
  }

  async #preCopy(): Promise<void> {
    const { vm, strategy, limits } = this.#options;
    vm.machine.cpuDirtyLog.start();
    for (const source of strategy.preCopy) this.#fetch(source, new PageSet(this.#dirty.capacity));
    this.#dirty.addAll();
    for (;;) {
      await this.#sendRound();
      if (this.#forecast.expectedDowntimeMs(this.#pagesAtSwitchover()) <= limits.downtimeLimitMs && this.#settled())
        return;
      if (this.#round < limits.roundsMax) continue;
      if (limits.ifNotConverging === "switch-over") return;
      throw new OperationError({
        code: "not-converging",
        message: `After ${this.#round} rounds the guest still dirties memory faster than it can be sent.`,
        advice: "Allow a longer downtime, more bandwidth or more rounds, or ask to switch over anyway.",
        facts: {
          rounds: this.#round,
          dirtyPages: this.#dirty.size,
          expectedDowntimeMs: Math.round(this.#forecast.expectedDowntimeMs(this.#pagesAtSwitchover())),
          downtimeLimitMs: limits.downtimeLimitMs,
        },
      });
    }
  }

  /** At least one round of dirty pages, and another would not halve them: less downtime is not to be had. */
  #settled(): boolean {
    return this.#round >= 2 && this.#dirty.size * 2 > this.#sender.pagesOfLastRound;
  }

  async #sendRound(): Promise<void> {
    const { vm, strategy, clock, yieldToGuest } = this.#options;
    const startMs = clock.nowMs();
    this.#round++;
    this.#sender.beginRound(this.#round);
    if (strategy.skipsMappedInPreCopy) this.#dirty.deleteSet(this.#sentAtSwitchover());
    const sending = this.#dirty.clone();
    const pagesTotal = sending.size;
    this.#dirty.clear();
    for (let page = sending.next(0); page >= 0; page = sending.next(page + 1)) {
      const full = this.#sender.memoryPage(page);
      if (!full) continue;
      await this.#sender.flush();
      this.#stopIfCancelled();
      this.#emit({
        kind: "round-progress",
        round: this.#round,
        pagesDone: this.#sender.pages + this.#sender.zeroPages,
        pagesTotal,
        bytes: this.#sender.bytes,
      });
      await yieldToGuest();
    }
    await this.#sender.flush();
    await yieldToGuest();
    for (const source of strategy.preCopy) this.#fetch(source, this.#dirty);
    if (strategy.skipsMappedInPreCopy) this.#dirty.deleteSet(this.#sentAtSwitchover());
    await this.#endRound(startMs, vm.machine.memory.pages.sizeBytes);
  }

  async #endRound(startMs: number, pageBytes: number): Promise<void> {
    const sender = this.#sender;
    const dirtyAfter = this.#dirty.size;
    const { pages, zeroPages } = sender;
    await this.#conversation.send({ kind: "round-end", round: this.#round, pages, zeroPages, dirtyAfter });
    this.#stopIfCancelled();
    const durationMs = this.#options.clock.nowMs() - startMs;
    this.#forecast.observeRound(pages * pageBytes, durationMs);
    sender.endRound();
    this.#emit({
      kind: "round",
      summary: {
        round: this.#round,
        pages,
        zeroPages,
        bytes: sender.bytes,
        durationMs,
        dirtyAfter,
        bytesPerSecond: (sender.bytes / Math.max(durationMs, 0.001)) * 1000,
        expectedDowntimeMs: this.#forecast.expectedDowntimeMs(this.#pagesAtSwitchover()),
      },
    });
  }

  #sentAtSwitchover(): PageSet {
    const set = new PageSet(this.#dirty.capacity);
    if (!this.#options.strategy.skipsMappedInPreCopy) return set;
    this.#options.vm.tracker.mappedInto(set);
    this.#options.vm.tracker.ringPagesInto(set);
    return set;
  }

  #pagesAtSwitchover(): number {
    return this.#dirty.size + this.#sentAtSwitchover().size;
  }

  #fetch(source: PageSource, into: PageSet): void {
    const { machine, tracker, deviceLog } = this.#options.vm;
    const set = new PageSet(this.#dirty.capacity);
    switch (source) {
      case "cpu-dirty":
        machine.cpuDirtyLog.fetchAndClear(set);
        break;
      case "device-dirty":
        deviceLog.fetchAndClear(set);
        break;
      case "released":
        tracker.fetchReleased(set);
        break;
      case "mapped":
      case "rings":
        assert(false, `a strategy cannot fetch ${source} in pre-copy`);
        break;
      default:
        unreachable(source);
    }
    if (source === "cpu-dirty" || source === "device-dirty" || source === "released") this.#fetched[source].addSet(set);
    into.addSet(set);
  }

  async #switchOver(): Promise<void> {
    const { vm, strategy, clock, betweenSteps, yieldToGuest } = this.#options;
    this.#phase("switchover");
    this.#round++;
    this.#sender.beginRound(this.#round);
    this.#deviceTouched = true;
    const switchover = new Switchover(strategy, vm, this.#dirty, this.#sender);
    const timer = new PartTimer(clock, (part, durationMs) => this.#emit({ kind: "downtime-part", part, durationMs }));
    for (let command = switchover.command; command !== undefined; command = switchover.command) {
      timer.enter(partOfCommand(command));
      const pausing = switchover.step();
      if (pausing !== undefined) await pausing;
      this.#afterStep(command, switchover);
      betweenSteps?.();
      if (this.#sender.isFull) {
        await this.#sender.flush();
        await yieldToGuest();
      }
      this.#throwIfFailed();
    }
    await this.#sender.flush();
    const { pages, zeroPages } = this.#sender;
    await this.#conversation.send({ kind: "round-end", round: this.#round, pages, zeroPages, dirtyAfter: 0 });
    timer.enter("saveState");
    await this.#sendState(switchover);
    this.#phase("hand-over");
    timer.enter("transfer");
    await this.#handOver(timer);
  }

  #afterStep(command: Command, switchover: Switchover): void {
    if (command.kind === "pause-vcpus") this.#emit({ kind: "vcpus-paused" });
    if (command.kind === "stop-device") this.#emit({ kind: "device-stopped" });
    const over = switchover.command !== command;
    if (over && (command.kind === "cut-rings" || command.kind === "drop-rings")) {
      this.#emit({ kind: "cut", queues: switchover.cuts });
    }
    this.#fetched["cpu-dirty"].addSet(switchover.fetchedCpuDirty);
    this.#fetched.released.addSet(switchover.fetchedReleased);
    this.#fetched["device-dirty"].addSet(switchover.fetchedDeviceDirty);
  }

  async #sendState(switchover: Switchover): Promise<void> {
    const { vm, strategy } = this.#options;
    assert(switchover.deviceState !== undefined, `strategy ${strategy.name} never saves the device`);
    const state = withResume(switchover.deviceState, strategy, switchover.cuts);
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
    vm.machine.cpuDirtyLog.putBack(this.#fetched["cpu-dirty"]);
    vm.tracker.putBackReleased(this.#fetched.released);
    vm.deviceLog.putBack(this.#fetched["device-dirty"]);
    if (this.#deviceTouched) {
      vm.vf.start();
      await vm.machine.resume();
      vm.vf.raiseAllEnabled();
    }
    this.#phase("resumed");
  }

  #stopIfCancelled(): void {
    this.#throwIfFailed();
    if (this.#options.signal?.aborted === true) throw cancelled();
  }

  /** Whoever waits for the destination learns of it at once; whoever is busy looks at the next batch. */
  #cancel(): void {
    if (this.#goSaid || this.#failure !== undefined) return;
    this.#failure = cancelled();
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

function cancelled(): OperationError {
  return new OperationError({
    code: "cancelled",
    message: "The migration was cancelled.",
    advice: "The guest goes on running on the source; start a new migration when you want to move it.",
  });
}

type DistributiveOmit<T, Key extends PropertyKey> = T extends unknown ? Omit<T, Key> : never;

/** The VF state the destination gets: saved registers, with the heads the strategy wants. */
function withResume(saved: VfState, strategy: Strategy, cuts: readonly QueueCut[]): VfState {
  switch (strategy.resume) {
    case "as-saved":
    case "start-over":
      return saved;
    case "head-from-cut":
      return withHeads(saved, cuts);
    default:
      return unreachable(strategy.resume);
  }
}

function withHeads(saved: VfState, cuts: readonly QueueCut[]): VfState {
  const cutOf = (index: number): QueueCut | undefined => cuts.find((cut) => cut.queue === index);
  const heads = (saved.registers["VFRDH"] ?? []).map((head, index) => cutOf(index)?.head ?? head);
  const queues = saved.receive.queues.map((queue, index) => ({
    ...queue,
    frameInProgress: cutOf(index)?.frameInProgress ?? queue.frameInProgress,
  }));
  return { ...saved, registers: { ...saved.registers, VFRDH: heads }, receive: { ...saved.receive, queues } };
}

/** Which part of the downtime a command belongs to; undefined for what happens while the guest still runs. */
function partOfCommand(command: Command): DowntimePart | undefined {
  switch (command.kind) {
    case "pause-vcpus":
      return "pause";
    case "cut-rings":
    case "drop-rings":
      return "rings";
    case "copy":
      return "pages";
    case "save-device":
      return "saveState";
    case "stop-device":
    case "stop-transmit":
      return undefined;
    default:
      return unreachable(command);
  }
}

/** Adds up time by part. A part that is entered again goes on where it was. */
class PartTimer {
  readonly #clock: Clock;
  readonly #report: (part: DowntimePart, durationMs: number) => void;
  #part: DowntimePart | undefined;
  #sinceMs = 0;

  constructor(clock: Clock, report: (part: DowntimePart, durationMs: number) => void) {
    this.#clock = clock;
    this.#report = report;
  }

  enter(part: DowntimePart | undefined): void {
    if (part === this.#part) return;
    this.leave();
    this.#part = part;
    this.#sinceMs = this.#clock.nowMs();
  }

  leave(): void {
    if (this.#part !== undefined) this.#report(this.#part, this.#clock.nowMs() - this.#sinceMs);
    this.#part = undefined;
  }
}
