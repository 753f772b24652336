// A source and a destination that only talk: they go through a whole conversation with made-up memory and states.
import { SeededRandom } from "../../src/base/random.ts";
import { OperationError } from "../../src/base/errors.ts";
import { Conversation } from "../../src/migration/wire/conversation.ts";
import { answerHello, helloFrom } from "../../src/migration/wire/negotiate.ts";
import type { Message, Offer, Outcome } from "../../src/migration/wire/protocol.ts";
import { migrationIdOf } from "../../src/migration/wire/state-payloads.ts";
import type { Transport } from "../../src/migration/wire/transport.ts";

export interface Script {
  readonly seed: number;
  readonly pageCount: number;
  readonly pageBytes: number;
  readonly rounds: number;
  readonly machineStateBytes: number;
  /** 0 for a strategy that carries no VF state. */
  readonly vfStateBytes: number;
  /** Ask for the outcome of an earlier migration first. */
  readonly asksFirst: boolean;
}

/** A script of modest size whose every part depends on the seed. */
export function scriptOf(seed: number): Script {
  const random = new SeededRandom(seed);
  return {
    seed,
    pageCount: 1 + random.below(200),
    pageBytes: 64 << random.below(3),
    rounds: 1 + random.below(3),
    machineStateBytes: 1 + random.below(3000),
    vfStateBytes: random.chance(0.8) ? 1 + random.below(500) : 0,
    asksFirst: random.chance(0.3),
  };
}

export function offerOf(script: Script): Offer {
  const id = randomBytes(new SeededRandom(script.seed), 16);
  return {
    kind: "offer",
    migrationId: migrationIdOf(id),
    machine: "model",
    memoryBytes: script.pageCount * script.pageBytes,
    pageBytes: script.pageBytes,
    strategy: "rings-first",
    vfModel: "intel-82599-vf",
    vfStateVersion: 1,
    machineStateVersion: 1,
    queuePairs: 2,
    mac: "02:00:00:00:00:01",
  };
}

function randomBytes(random: SeededRandom, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.u32());
}

export interface EndResult {
  /** Undefined when goodbye was said. */
  readonly error: OperationError | undefined;
  /** What this end said or heard last about who runs the guest. */
  readonly runsHere: boolean;
}

/** Talks like a source. Resolves, whatever happens to the link. */
export async function talkAsSource(transport: Transport, script: Script): Promise<EndResult> {
  const end = Promise.withResolvers<OperationError | undefined>();
  const conversation = new Conversation({ role: "source", transport, onEnd: (error) => end.resolve(error) });
  let goSaid = false;
  try {
    await conversation.send(helloFrom("scripted source"));
    await conversation.expect("hello-ack");
    if (script.asksFirst) await askOutcome(conversation, script);
    await conversation.send(offerOf(script));
    await conversation.expect("accept");
    await sendRounds(conversation, script);
    await sendStates(conversation, script);
    await conversation.expect("ready");
    goSaid = true;
    await conversation.send({ kind: "go" });
    await conversation.expect("running");
    await conversation.send({ kind: "goodbye" });
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
  }
  return { error: await end.promise, runsHere: !goSaid || conversation.peerGaveUp };
}

async function askOutcome(conversation: Conversation, script: Script): Promise<void> {
  await conversation.send({ kind: "query-outcome", migrationId: offerOf(script).migrationId });
  await conversation.expect("outcome");
}

async function sendRounds(conversation: Conversation, script: Script): Promise<void> {
  const { pageCount, pageBytes, rounds } = script;
  const random = new SeededRandom(script.seed);
  const memory = randomBytes(random, pageCount * pageBytes);
  for (let round = 1; round <= rounds; round++) {
    let frame = conversation.pagesEncoder({ round, pageBytes });
    let pages = 0;
    const ranges: number[] = [];
    for (let page = 0; page < pageCount; page++) {
      if (random.chance(0.3)) {
        ranges.push(page, 1);
        continue;
      }
      frame.add(page, memory, page * pageBytes);
      pages++;
      if (frame.count < 32) continue;
      await conversation.sendPages(frame);
      frame = conversation.pagesEncoder({ round, pageBytes });
    }
    if (frame.count > 0) await conversation.sendPages(frame);
    const zeroPages = ranges.length / 2;
    if (zeroPages > 0) await conversation.send({ kind: "zero-pages", round, ranges: Uint32Array.from(ranges) });
    await conversation.send({ kind: "round-end", round, pages, zeroPages, dirtyAfter: random.below(pageCount) });
  }
}

async function sendStates(conversation: Conversation, script: Script): Promise<void> {
  const { vfStateBytes, machineStateBytes } = script;
  await sendState(conversation, "vf-state", vfStateBytes);
  await conversation.send({ kind: "keepalive" });
  await sendState(conversation, "machine-state", machineStateBytes);
  await conversation.send({ kind: "end-of-state", machineStateBytes, vfStateBytes });
}

async function sendState(
  conversation: Conversation,
  kind: "machine-state" | "vf-state",
  totalBytes: number,
): Promise<void> {
  const partBytes = 1000;
  for (let offset = 0; offset < totalBytes; offset += partBytes) {
    const bytes = new Uint8Array(Math.min(partBytes, totalBytes - offset)).fill(offset);
    await conversation.send({ kind, totalBytes, offset, bytes });
  }
}

export interface ScriptedDestination {
  readonly conversation: Conversation;
  readonly result: Promise<EndResult>;
  /** Undefined until it has ended. */
  readonly ended: EndResult | undefined;
  /** What was heard, by kind. */
  readonly heard: Map<string, number>;
}

/**
 * Talks like a destination that has room for up to 1 MiB and stores pages into it. It trusts the conversation: a page
 * outside memory or a gap in a state that got through is an error without a code.
 */
export function talkAsDestination(transport: Transport): ScriptedDestination {
  const end = Promise.withResolvers<EndResult>();
  let ended: EndResult | undefined;
  const heard = new Map<string, number>();
  let memory = new Uint8Array(0);
  let pageBytes = 0;
  let goHeard = false;
  const stateBytes = { "machine-state": 0, "vf-state": 0 };
  const answer = (message: Message): void => {
    heard.set(message.kind, (heard.get(message.kind) ?? 0) + 1);
    if (message.kind === "hello") void conversation.send(answerHello(message, "scripted destination"));
    if (message.kind === "query-outcome") void conversation.send(unknownOutcome(message.migrationId));
    if (message.kind === "offer") {
      if (message.memoryBytes > 1 << 20) throw noRoom(message.memoryBytes);
      memory = new Uint8Array(message.memoryBytes);
      pageBytes = message.pageBytes;
      void conversation.send({ kind: "accept" });
    }
    if (message.kind === "pages") {
      message.pages.forEach((page, i) =>
        memory.set(message.bytes.subarray(i * pageBytes, (i + 1) * pageBytes), page * pageBytes),
      );
    }
    if (message.kind === "machine-state" || message.kind === "vf-state") {
      if (message.offset !== stateBytes[message.kind]) throw new RangeError(`${message.kind} has a gap`);
      stateBytes[message.kind] += message.bytes.length;
    }
    if (message.kind === "end-of-state") {
      if (message.machineStateBytes !== stateBytes["machine-state"]) throw new RangeError("machine-state is not whole");
      if (message.vfStateBytes !== stateBytes["vf-state"]) throw new RangeError("vf-state is not whole");
      void conversation.send({ kind: "ready", partsMs: { loadMachine: 1 } });
    }
    if (message.kind === "go") {
      goHeard = true;
      void conversation.send({ kind: "running" });
    }
  };
  const conversation: Conversation = new Conversation({
    role: "destination",
    transport,
    onMessage: answer,
    onEnd: (error) => {
      ended = { error, runsHere: goHeard };
      end.resolve(ended);
    },
  });
  return {
    conversation,
    result: end.promise,
    heard,
    get ended() {
      return ended;
    },
  };
}

function unknownOutcome(migrationId: Outcome["migrationId"]): Outcome {
  return { kind: "outcome", migrationId, outcome: "unknown" };
}

function noRoom(memoryBytes: number): OperationError {
  return new OperationError({
    code: "no-room",
    message: "There is no room for this machine.",
    advice: "Move it elsewhere.",
    facts: { memoryBytes },
  });
}
