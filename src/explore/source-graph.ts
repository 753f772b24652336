// The source's states and the steps between them, each step done once by the shipping code and remembered.
import { PageSet } from "../memory/page-set.ts";
import type { RingView } from "../nic/datapath-ports.ts";
import type { VfState } from "../nic/state.ts";
import type { Experiment } from "./experiment.ts";
import { grown } from "./growing.ts";
import { bytesKey, Interner, numbersKey } from "./interner.ts";
import { SourceVm } from "./source-vm.ts";
import { Actor, ACTORS_MAX, interventions, type Intervention } from "./steps.ts";

/** What a step added to the logs. Page numbers. */
export interface LogDelta {
  readonly cpuDirty: readonly number[];
  readonly deviceDirty: readonly number[];
  readonly released: readonly number[];
}

/** What the tracker says in a state. */
export interface TrackerView {
  readonly mapped: readonly number[];
  /** The number of that set. */
  readonly mappedSet: number;
  readonly ringPages: readonly number[];
  /** By queue and slot: five words, the first 1 if the slot is posted, then what was posted. */
  readonly postings: Uint32Array;
}

/** The device last: asking it in vain may change it. */
const isDevice = (actor: number): boolean => actor === Actor.receive || actor === Actor.transmit;
const actorsToTry = Array.from({ length: ACTORS_MAX }, (_, actor) => actor).toSorted(
  (a, b) => Number(isDevice(a)) - Number(isDevice(b)),
);

const UNKNOWN = -2;
const DISABLED = -1;
const STEPS = ACTORS_MAX + interventions.length;

export class SourceGraph {
  readonly pageCount: number;
  readonly pageBytes: number;
  readonly queuePairs: number;
  readonly slots: number;
  readonly contents = new Interner<Uint8Array>();
  /** Contents of all pages: their numbers. */
  readonly memories = new Interner<Uint32Array>();
  readonly vfStates = new Interner<VfState>();
  readonly guests = new Interner<Uint8Array>();
  readonly trackers = new Interner<TrackerView>();
  readonly ringViews = new Interner<readonly RingView[]>();
  readonly deltas = new Interner<LogDelta>();
  readonly #mappedSets = new Interner<readonly number[]>();
  /** By state right after a pause: what the guest was; and by state right after a save: where it was saved. */
  readonly #guestsAtPause = new Map<number, Set<number>>();
  readonly #savedFrom = new Map<number, Set<number>>();
  readonly #states = new Map<string, number>();
  /** Memory as it was when it was last looked at, and the numbers of its pages' contents. */
  readonly #seenWords: Uint32Array;
  #seenNumbers: Uint32Array;
  readonly #vm: SourceVm;
  readonly #tellsGuestsApart: boolean;
  /** State the VM is in, or -1. */
  #at = 0;
  // One entry a state.
  readonly #memory: number[] = [];
  readonly #vf: number[] = [];
  readonly #guest: number[] = [];
  readonly #tracker: number[] = [];
  readonly #rings: number[] = [];
  readonly #isPaused: boolean[] = [];
  readonly #pending: number[] = [];
  readonly #parent: number[] = [];
  readonly #parentStep: number[] = [];
  /** One entry a state and step. */
  #next = new Int32Array(1024 * STEPS).fill(UNKNOWN);
  #delta = new Int32Array(1024 * STEPS);
  /** The first write of the device into a page that was not its to write: the state before it, the step and the page. */
  wildWrite: { readonly state: number; readonly step: number; readonly page: number } | undefined;

  /** `tellsGuestsApart`: paused guests that differ in anything are different states. */
  constructor(
    experiment: Pick<Experiment, "scenario" | "assumptions">,
    options: { readonly tellsGuestsApart?: boolean } = {},
  ) {
    this.#tellsGuestsApart = options.tellsGuestsApart ?? false;
    this.#vm = new SourceVm(experiment);
    const { machine, vf } = this.#vm.host;
    this.pageCount = machine.memory.pages.count;
    this.pageBytes = machine.memory.pages.sizeBytes;
    this.queuePairs = vf.queuePairs;
    this.slots = machine.layout.receiveDescriptors;
    this.deltas.intern("||", () => ({ cpuDirty: [], deviceDirty: [], released: [] }));
    this.#seenWords = new Uint32Array(machine.memory.sizeBytes / 4);
    const zeros = new Uint8Array(this.pageBytes);
    this.#seenNumbers = new Uint32Array(this.pageCount).fill(this.contents.intern(bytesKey(zeros), () => zeros));
    this.#takeDelta();
    this.#enter(-1, -1);
  }

  get size(): number {
    return this.#memory.length;
  }

  /** The state after an actor's step, or DISABLED. */
  next(state: number, actor: number): number {
    const at = state * STEPS + actor;
    const known = this.#next[at] as number;
    return known === UNKNOWN ? this.#discover(state, actor) : known;
  }

  /** What the step to `next` added to the logs; 0 for nothing. */
  delta(state: number, actor: number): number {
    return this.#delta[state * STEPS + actor] as number;
  }

  /** What an intervention added to the logs: a device that is stopped ends the frame it is at. */
  deltaOf(state: number, intervention: Intervention): number {
    return this.#delta[state * STEPS + ACTORS_MAX + interventions.indexOf(intervention)] as number;
  }

  after(state: number, intervention: Intervention): number {
    const step = ACTORS_MAX + interventions.indexOf(intervention);
    const known = this.#next[state * STEPS + step] as number;
    return known === UNKNOWN ? this.#discover(state, step) : known;
  }

  tracker(state: number): TrackerView {
    return this.trackers.value(this.#tracker[state] as number);
  }

  /** The number of what the tracker says. */
  trackerNumber(state: number): number {
    return this.#tracker[state] as number;
  }

  /** The number of the set of mapped pages. */
  mappedSet(state: number): number {
    return this.tracker(state).mappedSet;
  }

  vfState(state: number): VfState {
    return this.vfStates.value(this.#vf[state] as number);
  }

  ringViewNumber(state: number, queue: number): number {
    return (this.#rings[state] as number) * this.queuePairs + queue;
  }

  ringView(number: number): RingView {
    return this.ringViews.value(Math.floor(number / this.queuePairs))[number % this.queuePairs] as RingView;
  }

  isPaused(state: number): boolean {
    return this.#isPaused[state] as boolean;
  }

  /** What the guest may be in a state in which its CPUs were paused and the VF saved. */
  guestsAtPause(state: number): ReadonlySet<number> {
    const guests = new Set(this.#guestsAtPause.get(state));
    for (const before of this.#savedFrom.get(state) ?? []) {
      for (const guest of this.#guestsAtPause.get(before) ?? []) guests.add(guest);
    }
    return guests;
  }

  guestOf(state: number): number {
    return this.#guest[state] as number;
  }

  /** Interrupts that wait for the guest in a state, a bit each. */
  pendingIn(state: number): number {
    return this.#pending[state] as number;
  }

  /** A guest with other interrupts waiting for it. */
  withPending(guest: number, pending: number): Uint8Array {
    const text = bytesKey(this.guests.value(guest)).replace(PENDING, `"pendingVectors":${pending}`);
    return new TextEncoder().encode(text);
  }

  /** The little-endian word at four times the index. */
  word(state: number, index: number): number {
    const wordsPerPage = this.pageBytes / 4;
    const content = this.contents.value(this.content(state, Math.floor(index / wordsPerPage)));
    return new DataView(content.buffer).getUint32((index % wordsPerPage) * 4, true);
  }

  memory(state: number): number {
    return this.#memory[state] as number;
  }

  /** Pages that differ between two states. */
  changedPages(state: number, other: number): number[] {
    if (this.#memory[state] === this.#memory[other]) return [];
    const before = this.memories.value(this.#memory[state] as number);
    const after = this.memories.value(this.#memory[other] as number);
    return Array.from(before.keys()).filter((page) => before[page] !== after[page]);
  }

  content(state: number, page: number): number {
    return this.memories.value(this.#memory[state] as number)[page] as number;
  }

  #discover(state: number, step: number): number {
    this.#goTo(state);
    const next = this.#take(state, step);
    this.#wander();
    return next;
  }

  /** The VM is in `state` and takes a step that was never taken there. */
  #take(state: number, step: number): number {
    const hasActed = this.#perform(step);
    const at = state * STEPS + step;
    if (!hasActed) {
      // A device that was asked in vain may have dropped frames that cannot be delivered.
      if (isDevice(step)) this.#at = -1;
      this.#next[at] = DISABLED;
      return DISABLED;
    }
    const delta = this.#takeDelta();
    const next = this.#enter(state, step);
    this.#checkWrites(state, step, delta);
    this.#next[at] = next;
    this.#delta[at] = delta;
    this.#at = next;
    const intervention = interventions[step - ACTORS_MAX];
    if (intervention === "pause") addTo(this.#guestsAtPause, next, this.#guest[state] as number);
    if (intervention === "save") addTo(this.#savedFrom, next, state);
    return next;
  }

  /** The device writes into pages that are mapped, and into its rings, and nowhere else. */
  #checkWrites(state: number, step: number, delta: number): void {
    const page = pageOutside(this.deltas.value(delta).deviceDirty, this.tracker(state));
    if (page !== undefined) this.wildWrite ??= { state, step, page };
  }

  /** Goes on from where the VM is while there is something new, since coming back would cost more. */
  #wander(): void {
    while (this.#at >= 0) {
      const state = this.#at;
      const actor = actorsToTry.find((candidate) => this.#next[state * STEPS + candidate] === UNKNOWN);
      if (actor === undefined) return;
      this.#take(state, actor);
    }
  }

  #perform(step: number): boolean {
    const intervention = interventions[step - ACTORS_MAX];
    if (intervention === undefined) return this.#vm.act(step);
    this.#vm.intervene(intervention);
    return true;
  }

  #goTo(state: number): void {
    if (this.#at === state) return;
    this.#vm.reset();
    for (const step of this.path(state)) this.#perform(step);
    this.#takeDelta();
    this.#at = state;
  }

  /** Steps that lead from the start to a state. */
  path(state: number): number[] {
    const path: number[] = [];
    for (let at = state; (this.#parent[at] as number) >= 0; at = this.#parent[at] as number) {
      path.push(this.#parentStep[at] as number);
    }
    return path.toReversed();
  }

  #takeDelta(): number {
    const { machine, deviceLog, tracker } = this.#vm.host;
    const take = (fetch: (into: PageSet) => void): number[] => {
      const pages = new PageSet(this.pageCount);
      fetch(pages);
      return pages.toArray();
    };
    const delta: LogDelta = {
      cpuDirty: take((into) => machine.cpuDirtyLog.fetchAndClear(into)),
      deviceDirty: take((into) => deviceLog.fetchAndClear(into)),
      released: take((into) => tracker.fetchReleased(into)),
    };
    const key = [delta.cpuDirty, delta.deviceDirty, delta.released].map(numbersKey).join("|");
    return this.deltas.intern(key, () => delta);
  }

  /** The state the VM is in, new or known. */
  #enter(parent: number, step: number): number {
    const memory = this.#observeMemory();
    const vf = this.#observeVf();
    const guest = this.#observeGuest();
    const tracker = this.#observeTracker();
    const rings = this.#observeRings();
    const { machine, posted } = this.#vm.host;
    const { isPaused } = machine;
    const flights = posted?.inFlight.map(flightKey).join(";") ?? "";
    const hidden = `${isPaused} ${numbersKey(this.#vm.progress)} ${flights}`;
    // Of a guest that stands still only its memory matters until it goes on, and the interrupts that wait for it; what it
    // may be `guestsAtPause` knows.
    const pending = pendingVectors(this.guests.value(guest));
    const cpus = isPaused && !this.#tellsGuestsApart ? `pending ${pending}` : guest;
    const key = `${memory} ${vf} ${cpus} ${tracker} ${rings} ${hidden}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    const state = this.#memory.length;
    this.#states.set(key, state);
    this.#memory.push(memory);
    this.#vf.push(vf);
    this.#guest.push(guest);
    this.#tracker.push(tracker);
    this.#rings.push(rings);
    this.#isPaused.push(isPaused);
    this.#pending.push(pending);
    this.#parent.push(parent);
    this.#parentStep.push(step);
    this.#makeRoom(state);
    for (let actor = 0; actor < ACTORS_MAX; actor++) {
      if (this.#vm.isIdle(actor)) this.#next[state * STEPS + actor] = DISABLED;
    }
    return state;
  }

  #makeRoom(state: number): void {
    if ((state + 1) * STEPS <= this.#next.length) return;
    const { length } = this.#next;
    this.#next = grown(this.#next, new Int32Array(length * 2).fill(UNKNOWN));
    this.#delta = grown(this.#delta, new Int32Array(length * 2));
  }

  #observeMemory(): number {
    const bytes = this.#vm.host.machine.memory.bytes();
    const words = this.#vm.host.machine.memory.words();
    const numbers = this.#seenNumbers.slice();
    for (let page = 0; page < this.pageCount; page++) {
      if (!this.#hasChanged(words, page)) continue;
      const content = bytes.subarray(page * this.pageBytes, (page + 1) * this.pageBytes);
      numbers[page] = this.contents.intern(bytesKey(content), () => content.slice());
    }
    this.#seenNumbers = numbers;
    return this.memories.intern(numbersKey(numbers), () => numbers);
  }

  /** Whether a page differs from what it was when memory was last looked at, which it is from now on. */
  #hasChanged(words: Uint32Array, page: number): boolean {
    const seen = this.#seenWords;
    const end = ((page + 1) * this.pageBytes) / 4;
    let hasChanged = false;
    for (let i = (page * this.pageBytes) / 4; i < end; i++) {
      if (seen[i] === words[i]) continue;
      hasChanged = true;
      seen[i] = words[i] as number;
    }
    return hasChanged;
  }

  #observeVf(): number {
    const state = this.#vm.lookAtVf();
    return this.vfStates.intern(JSON.stringify(state), () => state);
  }

  #observeGuest(): number {
    const { machine } = this.#vm.host;
    const { isPaused } = machine;
    void machine.pause();
    const state = machine.saveState();
    if (!isPaused) void machine.resume();
    // How many interrupts came is a figure for people; nothing in the guest looks at it.
    const key = bytesKey(state).replace(/"interrupts":\d+/, "");
    return this.guests.intern(key, () => state);
  }

  #observeTracker(): number {
    const { tracker } = this.#vm.host;
    const pages = (fill: (into: PageSet) => void): number[] => {
      const set = new PageSet(this.pageCount);
      fill(set);
      return set.toArray();
    };
    const mapped = pages((into) => tracker.mappedInto(into));
    const ringPages = pages((into) => tracker.ringPagesInto(into));
    const postings = new Uint32Array(this.queuePairs * this.slots * 5);
    const words = new Uint32Array(4);
    for (let i = 0; i < this.queuePairs * this.slots; i++) {
      if (!tracker.postedWords(Math.floor(i / this.slots), i % this.slots, words)) continue;
      postings[i * 5] = 1;
      postings.set(words, i * 5 + 1);
    }
    const key = [mapped, ringPages, postings].map(numbersKey).join("|");
    const mappedSet = this.#mappedSets.intern(numbersKey(mapped), () => mapped);
    return this.trackers.intern(key, () => ({ mapped, mappedSet, ringPages, postings }));
  }

  #observeRings(): number {
    const { vf } = this.#vm.host;
    const views = Array.from({ length: this.queuePairs }, (_, queue) => vf.rxRing(queue));
    return this.ringViews.intern(JSON.stringify(views), () => views);
  }
}

const PENDING = /"pendingVectors":(\d+)/;

/** Interrupts that wait for the guest, a bit each. */
function pendingVectors(guest: Uint8Array): number {
  return Number(PENDING.exec(bytesKey(guest))?.[1] ?? 0);
}

/** A page among those written that was neither mapped nor a ring's. */
export function pageOutside(
  written: readonly number[],
  { mapped, ringPages }: Pick<TrackerView, "mapped" | "ringPages">,
): number | undefined {
  return written.find((page) => !mapped.includes(page) && !ringPages.includes(page));
}

function addTo(sets: Map<number, Set<number>>, key: number, value: number): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

function flightKey({
  iova,
  tag,
  bytes,
  words,
}: {
  iova: number;
  tag: number;
  bytes: Uint8Array | undefined;
  words: Uint32Array | undefined;
}): string {
  return `${iova}:${tag}:${bytes === undefined ? "" : bytesKey(bytes)}:${words === undefined ? "" : numbersKey(words)}`;
}
