// The destination's side: a guest is expected in the QEMU next door, which waits for one, and announced when it runs.
import { OperationError } from "../../base/errors.ts";
import { Destination, type PreparedVm } from "../../migration/destination.ts";
import type { MigrationId, Offer } from "../../migration/wire/protocol.ts";
import type { Transport } from "../../migration/wire/transport.ts";
import { announceDelaysMs, announceFrames } from "../../network/announce.ts";
import { parseMac } from "../../network/mac.ts";
import { hostClock } from "../clock.ts";
import { everySecond } from "../every-second.ts";
import { refuseUnless } from "../refusal.ts";
import { listenTcp, type TcpListener } from "../tcp-transport.ts";
import { listenTls, readTlsFiles, requireSafeLink } from "../tls-transport.ts";
import type { ExpectEnd } from "./answers.ts";
import { failureOf } from "./failure.ts";
import { attach, type AttachedJob, type JobGround, type JobWatcher } from "./job.ts";
import { checkDestination } from "./preflight.ts";
import type { ExpectRequest } from "./requests.ts";

/** A source whose link broke at the end asks what became of its guest: it is answered for this long. */
const ANSWERS_MS = 60_000;

export interface Expected {
  readonly end: ExpectEnd;
  /** Stops answering for what became of the guest. It stops by itself after a while. */
  readonly forget: () => void;
}

/** Rejects with an OperationError when nobody could be listened for. */
export async function expectHere(ground: JobGround, request: ExpectRequest, watcher: JobWatcher): Promise<Expected> {
  requireSafeLink(request.at, request.tls);
  const job = await attach(ground, request, false, checkDestination);
  const reception = new GuestReception(ground, job, watcher);
  try {
    return await reception.run(request);
  } finally {
    await job.release();
  }
}

class GuestReception {
  readonly #ground: JobGround;
  readonly #job: AttachedJob;
  readonly #watcher: JobWatcher;
  readonly #destination: Destination;
  readonly #ended = Promise.withResolvers<ExpectEnd>();
  #offered: MigrationId | undefined;
  #isOver = false;

  constructor(ground: JobGround, job: AttachedJob, watcher: JobWatcher) {
    this.#ground = ground;
    this.#job = job;
    this.#watcher = watcher;
    this.#destination = new Destination({
      clock: hostClock,
      prepare: (offer) => this.#prepare(offer),
      machineStateVersion: job.guest.machineStateVersion,
      // Whoever connects and leaves without an offer is nobody's news.
      onEvent: (event) => {
        if (this.#offered !== undefined) watcher.onEvent(event);
      },
      onRunning: () => this.#arrived(),
      everySecond,
    });
  }

  async run(request: ExpectRequest): Promise<Expected> {
    const { served, clientGone } = this.#ground;
    // The VF stands still and hears nothing until the guest is here.
    this.#ground.setReceiving(false);
    served.vf.stop();
    let end: ExpectEnd | undefined;
    try {
      const listener = await this.#listen(request);
      this.#watcher.onListening(listener.address);
      end = await this.#untilEnded(AbortSignal.any([this.#watcher.signal, clientGone]));
      return { end, forget: answeringFor(listener, this.#offered === undefined ? 0 : ANSWERS_MS) };
    } finally {
      if (end?.kind !== "arrived") this.#ground.setReceiving(true);
      // A VF that may hold another host's state stays stopped: its QEMU has to start anew, which resets it.
      if (this.#offered === undefined) served.vf.start();
    }
  }

  async #untilEnded(enough: AbortSignal): Promise<ExpectEnd> {
    const giveUp = (): void => this.#giveUp();
    enough.addEventListener("abort", giveUp);
    if (enough.aborted) giveUp();
    const end = await this.#ended.promise;
    enough.removeEventListener("abort", giveUp);
    return end;
  }

  async #listen({ at, tls }: ExpectRequest): Promise<TcpListener> {
    const take = (transport: Transport): void => void this.#serve(transport);
    if (tls === undefined) return listenTcp(at, take);
    const refused = (error: OperationError): void => this.#watcher.onStage(`Turned away: ${error.message}`);
    return listenTls(at, readTlsFiles(tls), { transport: take, refused });
  }

  async #serve(transport: Transport): Promise<void> {
    const outcome = await this.#destination.serve(transport);
    if (outcome.kind === "running") {
      this.#ended.resolve({ kind: "arrived" });
    }
    // A guest that was refused, or another connection's question, leaves us waiting.
    if (outcome.kind !== "discarded" || outcome.migrationId !== this.#offered || this.#offered === undefined) return;
    this.#ended.resolve({ kind: "discarded", failure: failureOf(outcome.error) });
  }

  async #prepare(offer: Offer): Promise<PreparedVm> {
    refuseUnless(this.#offered === undefined && !this.#isOver, "another guest", "one sidecar to a guest");
    const { guest } = this.#job;
    const { machine } = guest;
    const { mac, served } = this.#ground;
    const { sizeBytes, pages } = machine.memory;
    refuseUnless(offer.machine === "qemu", `a guest of the machine ${offer.machine}`, "a QEMU");
    refuseUnless(offer.memoryBytes === sizeBytes, `${offer.memoryBytes} bytes of memory`, "QEMU's -m");
    refuseUnless(offer.pageBytes === pages.sizeBytes, `pages of ${offer.pageBytes} bytes`, "the same version");
    refuseUnless(offer.mac === mac, `the address ${offer.mac}`, "vf serve --mac");
    refuseUnless(offer.queuePairs === served.vf.queuePairs, `${offer.queuePairs} queue pairs`, "the same version");
    // From here on this QEMU is this guest's or nobody's: it takes in one guest in its life.
    this.#offered = offer.migrationId;
    await guest.prepareArrival(offer.machineHint);
    return { machine, vf: served.arriving, discard: async () => {} };
  }

  /** Until `go` nobody else says so the guest is given up; from then on it runs here, whoever looks on. */
  #giveUp(): void {
    this.#isOver = true;
    const error = this.#ground.clientGone.aborted ? qemuGone() : notExpectedAnyMore();
    if (this.#offered === undefined) this.#ended.resolve({ kind: "discarded", failure: failureOf(error) });
    else this.#destination.giveUp(this.#offered, error);
  }

  #arrived(): void {
    const ground = this.#ground;
    ground.showLink();
    ground.setReceiving(true);
    const frames = announceFrames(parseMac(ground.mac));
    for (const delayMs of announceDelaysMs) {
      const announce = (): void => {
        for (const frame of frames) ground.send(frame);
      };
      if (delayMs === 0) announce();
      else setTimeout(announce, delayMs).unref();
    }
  }
}

/** Gives what closes the listener earlier. */
function answeringFor(listener: TcpListener, timeMs: number): () => void {
  const timer = setTimeout(() => listener.close(), timeMs);
  return () => {
    clearTimeout(timer);
    listener.close();
  };
}

function notExpectedAnyMore(): OperationError<"not-expected"> {
  return new OperationError({
    code: "not-expected",
    message: "The destination's sidecar was ended before the guest was there.",
    advice: "The guest runs on the source. Start the destination's QEMU and its sidecar anew to move it.",
  });
}

function qemuGone(): OperationError<"destination-qemu-gone"> {
  return new OperationError({
    code: "destination-qemu-gone",
    message: "The destination's QEMU ended before the guest was there.",
    advice: "See why that QEMU ended; the guest runs on the source.",
  });
}
