// The destination's side of a migration: takes pages and state, loads them, and runs the guest when told to.
import { assert, unreachable } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { PageSet } from "../memory/page-set.ts";
import type { Machine } from "../machine/machine.ts";
import { decodeVfState, VF_STATE_VERSION, type VfState } from "../nic/state.ts";
import { strategyByName } from "../strategy/strategies.ts";
import type { Strategy } from "../strategy/strategy.ts";
import { makeReady } from "./arrival.ts";
import type { MigrationEvent, MigrationEventSink, MigrationPhase } from "./events.ts";
import { PROGRAM, VF_MODEL } from "./identity.ts";
import type { ArrivingVf } from "./parts.ts";
import { rehearseArrival } from "./rehearsal.ts";
import { StateParts } from "./state-parts.ts";
import { Conversation } from "./wire/conversation.ts";
import { answerHello } from "./wire/negotiate.ts";
import type { Message, MigrationId, Offer, Outcome } from "./wire/protocol.ts";
import type { Transport } from "./wire/transport.ts";

/** A machine made for an offer: RAM all zero, nothing running, the VF plugged in and stopped. */
export interface PreparedVm {
  readonly machine: Pick<Machine, "memory" | "restoreState" | "pause" | "resume">;
  readonly vf: ArrivingVf;
  /** Called when the guest will never run here. */
  discard(): Promise<void>;
}

/** Watches the image as it arrives, for the audit; never asked anything. */
export interface ImageObserver {
  page(page: number, bytes: Uint8Array): void;
  zeroPage(page: number): void;
}

export interface DestinationOptions {
  readonly clock: Clock;
  /** Makes the machine an offer describes, or throws an OperationError that becomes the refusal. */
  readonly prepare: (offer: Offer) => Promise<PreparedVm>;
  readonly machineStateVersion: number;
  readonly onEvent: MigrationEventSink;
  readonly image?: ImageObserver;
  /** The guest runs here now, before the last word goes out: the place to announce its address. See makeReady. */
  readonly onRunning?: (resumedWith: VfState) => void;
  /** Calls back about once a second until told to stop; keeps the link alive and notices a silent peer. */
  readonly everySecond: (callback: (nowMs: number) => void) => () => void;
}

export type DestinationOutcome =
  | { readonly kind: "running"; readonly vm: PreparedVm }
  /** The guest does not run here and never will. */
  | {
      readonly kind: "discarded";
      readonly error: OperationError;
      /** Undefined if it ended before anything was offered. */
      readonly migrationId: MigrationId | undefined;
    }
  /** The connection only asked about the outcome of an earlier one. */
  | { readonly kind: "answered" };

const OUTCOMES_KEPT = 64;

/** Takes connections one after another; remembers what became of each migration, for a source that lost its link. */
export class Destination {
  readonly options: DestinationOptions;
  readonly #outcomes = new Map<MigrationId, Outcome["outcome"]>();
  readonly #underWay = new Map<MigrationId, Reception>();

  constructor(options: DestinationOptions) {
    this.options = options;
  }

  serve(transport: Transport): Promise<DestinationOutcome> {
    return new Reception(this, transport).outcome;
  }

  /** Notes that a migration began; one that is under way under the same name is the programmer's or a hostile peer's doing. */
  begin(id: MigrationId, reception: Reception): void {
    if (this.#underWay.has(id) || this.#outcomes.has(id)) {
      throw new OperationError({
        code: "migration-id-reused",
        message: `Migration ${id} was already offered here.`,
        advice: "Start the migration again: every attempt takes a new name.",
        facts: { migrationId: id },
      });
    }
    this.#underWay.set(id, reception);
  }

  settle(id: MigrationId, outcome: Outcome["outcome"]): void {
    this.#underWay.delete(id);
    this.#outcomes.set(id, outcome);
    const oldest = this.#outcomes.keys().next().value;
    if (this.#outcomes.size > OUTCOMES_KEPT && oldest !== undefined) this.#outcomes.delete(oldest);
  }

  /** Gives a migration that is under way up for good, unless it was already told to go: then the guest runs here. */
  giveUp(id: MigrationId, why: OperationError): void {
    this.#underWay.get(id)?.giveUp(why);
  }

  /**
   * Answers for an earlier connection. One that has not seen `go` is given up first, so that the answer stays true; one
   * that has is waited for.
   */
  async outcomeOf(id: MigrationId): Promise<Outcome["outcome"]> {
    const reception = this.#underWay.get(id);
    reception?.giveUp(superseded());
    await reception?.outcome;
    return this.#outcomes.get(id) ?? "unknown";
  }
}

/** One connection. */
class Reception {
  readonly outcome: Promise<DestinationOutcome>;
  readonly #destination: Destination;
  readonly #options: DestinationOptions;
  readonly #conversation: Conversation;
  readonly #settle: (outcome: DestinationOutcome) => void;
  #offer: Offer | undefined;
  #strategy: Strategy | undefined;
  #vm: PreparedVm | undefined;
  /** Pages that may hold something else than zero. */
  #stored: PageSet | undefined;
  #deviceState: VfState | undefined;
  #goHeard = false;
  #answered = false;
  #settled = false;
  readonly #machineParts = new StateParts("machine-state");
  readonly #vfParts = new StateParts("vf-state");

  constructor(destination: Destination, transport: Transport) {
    this.#destination = destination;
    this.#options = destination.options;
    const { promise, resolve } = Promise.withResolvers<DestinationOutcome>();
    this.outcome = promise;
    this.#settle = resolve;
    const stopTicking = this.#options.everySecond((nowMs) => this.#conversation.tick(nowMs));
    this.#conversation = new Conversation({
      role: "destination",
      transport,
      onMessage: (message) => this.#take(message),
      onEnd: (error) => {
        stopTicking();
        this.#ended(error);
      },
    });
  }

  #take(message: Message): void {
    switch (message.kind) {
      case "hello":
        void this.#conversation.send(answerHello(message, PROGRAM));
        return;
      case "query-outcome":
        this.#inTurn(this.#answer(message.migrationId));
        return;
      case "offer":
        this.#inTurn(this.#accept(message));
        return;
      case "pages":
        this.#storePages(message.pages, message.bytes);
        return;
      case "zero-pages":
        this.#storeZeroPages(message.ranges);
        return;
      case "round-end":
        return;
      case "machine-state":
        this.#machineParts.add(message);
        return;
      case "vf-state":
        this.#vfParts.add(message);
        return;
      case "end-of-state":
        this.#inTurn(this.#load(message));
        return;
      case "go":
        this.#inTurn(this.#run());
        return;
      case "goodbye":
      case "abort":
      case "error":
      case "keepalive":
        return;
      case "hello-ack":
      case "accept":
      case "ready":
      case "running":
      case "outcome":
        assert(false, `the conversation let a ${message.kind} through to the destination`);
        return;
      default:
        unreachable(message);
    }
  }

  /** Work that takes longer than a message: its failure ends the conversation. */
  #inTurn(work: Promise<void>): void {
    work.catch((thrown: unknown) => {
      if (!(thrown instanceof OperationError)) throw thrown;
      this.#conversation.fail(thrown);
      this.#ended(thrown);
    });
  }

  async #answer(migrationId: MigrationId): Promise<void> {
    const outcome = await this.#destination.outcomeOf(migrationId);
    await this.#conversation.send({ kind: "outcome", migrationId, outcome });
    this.#answered = true;
  }

  async #accept(offer: Offer): Promise<void> {
    const { machineStateVersion, prepare } = this.#options;
    this.#phase("negotiate");
    refuseUnless(offer.vfModel === VF_MODEL, offer, "vf-model", `the VF model ${offer.vfModel}`);
    refuseUnless(
      offer.vfStateVersion === VF_STATE_VERSION,
      offer,
      "vf-version",
      `VF state version ${offer.vfStateVersion}`,
    );
    refuseUnless(
      offer.machineStateVersion === machineStateVersion,
      offer,
      "machine-version",
      `machine state version ${offer.machineStateVersion}`,
    );
    this.#strategy = strategyByName(offer.strategy);
    this.#destination.begin(offer.migrationId, this);
    this.#offer = offer;
    const vm = await prepare(offer);
    if (this.#settled) return vm.discard();
    this.#vm = vm;
    this.#stored = new PageSet(vm.machine.memory.pages.count);
    const { memory } = vm.machine;
    assert(memory.sizeBytes === offer.memoryBytes, "prepare made a machine of another size");
    assert(memory.pages.sizeBytes === offer.pageBytes, "prepare made a machine of another page size");
    rehearseArrival(vm.vf);
    await this.#conversation.send({ kind: "accept" });
    this.#phase("pre-copy");
    return undefined;
  }

  #preparedVm(): PreparedVm {
    assert(this.#vm !== undefined, "the conversation let state through before the offer was accepted");
    return this.#vm;
  }

  #storePages(pages: Uint32Array, bytes: Uint8Array): void {
    const { memory } = this.#preparedVm().machine;
    const size = memory.pages.sizeBytes;
    const ram = memory.bytes();
    for (let i = 0; i < pages.length; i++) {
      const page = pages[i] as number;
      this.#stored?.add(page);
      const content = bytes.subarray(i * size, (i + 1) * size);
      ram.set(content, page * size);
      this.#options.image?.page(page, content);
    }
  }

  /** Memory that nothing was stored in is zero as it is: clearing it would make the host find room for it, page by page. */
  #storeZeroPages(ranges: Uint32Array): void {
    const { memory } = this.#preparedVm().machine;
    const size = memory.pages.sizeBytes;
    const stored = this.#stored;
    assert(stored !== undefined, "pages come after the offer was accepted");
    for (let i = 0; i < ranges.length; i += 2) {
      const end = (ranges[i] as number) + (ranges[i + 1] as number);
      for (let page = stored.next(ranges[i] as number); page >= 0 && page < end; page = stored.next(page + 1)) {
        memory.bytes().fill(0, page * size, (page + 1) * size);
        this.#options.image?.zeroPage(page);
        stored.delete(page);
      }
    }
  }

  async #load(sizes: { machineStateBytes: number; vfStateBytes: number }): Promise<void> {
    const { clock } = this.#options;
    const { machine, vf } = this.#preparedVm();
    this.#phase("hand-over");
    const startMs = clock.nowMs();
    const machineState = this.#machineParts.whole(sizes.machineStateBytes);
    const vfState = this.#vfParts.whole(sizes.vfStateBytes);
    await machine.restoreState(machineState);
    if (this.#settled) return;
    const machineMs = clock.nowMs();
    const state = decodeVfState(vfState);
    vf.restore(state);
    this.#deviceState = state;
    const doneMs = clock.nowMs();
    await this.#conversation.send({
      kind: "ready",
      partsMs: { loadMachine: machineMs - startMs, loadDevice: doneMs - machineMs },
    });
  }

  async #run(): Promise<void> {
    this.#goHeard = true;
    const vm = this.#preparedVm();
    assert(this.#strategy !== undefined && this.#deviceState !== undefined, "go before everything was loaded");
    this.#deviceState = makeReady(vm.vf, this.#strategy.resume, this.#deviceState);
    await this.#start(vm);
    vm.vf.raiseAllEnabled();
    this.#emit({ kind: "running" });
    this.#options.onRunning?.(this.#deviceState);
    this.#finish("running", { kind: "running", vm });
    await this.#conversation.send({ kind: "running" });
  }

  /** A guest that cannot be started does not run: it is as if `go` had not come, and the source hears of it. */
  async #start({ machine, vf }: PreparedVm): Promise<void> {
    vf.start();
    try {
      await machine.resume();
    } catch (thrown) {
      vf.stop();
      await machine.pause();
      this.#goHeard = false;
      throw thrown;
    }
  }

  /** Before `go`, this side gives the guest up for good. */
  giveUp(error: OperationError): void {
    if (this.#goHeard) return;
    this.#conversation.fail(error);
    this.#ended(error);
  }

  #ended(error: OperationError | undefined): void {
    if (this.#goHeard || this.#settled) return;
    if (this.#answered && error === undefined) {
      this.#finish("discarded", { kind: "answered" });
      return;
    }
    const reason =
      error ??
      new OperationError({
        code: "peer-left",
        message: "The source said goodbye before the guest was handed over.",
        advice: "The guest runs on the source; start a new migration when you want to move it.",
      });
    this.#emit({ kind: "failed", code: reason.code, message: reason.message, facts: reason.facts });
    const vm = this.#vm;
    this.#finish("discarded", { kind: "discarded", error: reason, migrationId: this.#offer?.migrationId });
    if (vm !== undefined) this.#inTurn(vm.discard());
  }

  #finish(outcome: "running" | "discarded", result: DestinationOutcome): void {
    this.#settled = true;
    if (this.#offer !== undefined) this.#destination.settle(this.#offer.migrationId, outcome);
    this.#settle(result);
  }

  #phase(phase: MigrationPhase): void {
    this.#emit({ kind: "phase", phase });
  }

  #emit(event: EventWithoutTime): void {
    this.#options.onEvent({ atMs: this.#options.clock.nowMs(), ...event });
  }
}

function superseded(): OperationError {
  return new OperationError({
    code: "superseded",
    message: "The source asked on a new connection what became of this migration; it was given up.",
    advice: "Start the migration again.",
  });
}

type EventWithoutTime = MigrationEvent extends infer Event
  ? Event extends unknown
    ? Omit<Event, "atMs">
    : never
  : never;

function refuseUnless(condition: boolean, offer: Offer, code: string, what: string): void {
  if (condition) return;
  throw new OperationError({
    code: `refused-${code}`,
    message: `This destination cannot take ${what}.`,
    advice: "Run the same version of Underway on both hosts.",
    facts: { offered: JSON.stringify(offer) },
  });
}
