// `vf serve` itself: one VF at a socket, its cable, the clients that come and go, and one move at a time.
import { OperationError } from "../../base/errors.ts";
import { loadNative } from "../../machine/qemu/native.ts";
import { ServedVm, type ClientEvent } from "../../machine/qemu/served-vm.ts";
import { DmaAccess } from "../../iommu/fault-log.ts";
import { hostClock } from "../clock.ts";
import { DeviceRunner } from "../device-runner.ts";
import type { JobEnd, ServerStatus } from "./answers.ts";
import { expectHere } from "./expect-here.ts";
import type { JobGround, JobWatcher } from "./job.ts";
import { moveFromHere } from "./move-from-here.ts";
import type { ExpectRequest, MoveRequest } from "./requests.ts";
import { openUplink, type Uplink, type UplinkChoice, type UplinkEvents } from "./uplink.ts";

export interface VfServerOptions {
  readonly socketPath: string;
  readonly mac: string;
  readonly uplink: UplinkChoice;
  /** False: everything by messages, no memory is shared, and nothing can be moved. */
  readonly isNative: boolean;
  readonly allowUnsealed: boolean;
  readonly onEvent: (event: VfServerEvent) => void;
}

export type VfServerEvent =
  | ClientEvent
  | { readonly kind: "link"; readonly isUp: boolean; readonly why: string }
  /** DMA that went nowhere since the last such event, and the first of them. At most one a second. */
  | { readonly kind: "faults"; readonly count: number; readonly first: string }
  | { readonly kind: "job-began"; readonly job: Job }
  | { readonly kind: "job-ended"; readonly job: Job; readonly end: JobEnd["kind"] | "failed"; readonly why: string };

export type Job = "move" | "expect";

const FAULTS_LOOKED_AT_MS = 1000;
const LINK_UP = { up: true, speedMbps: 10_000 } as const;
const LINK_DOWN = { up: false, speedMbps: 10_000 } as const;

/** The VF and its cable are made before the server that hears of both. */
class Hub implements UplinkEvents {
  onFrame: (frame: Uint8Array) => void = () => {};
  onLink: (isUp: boolean, why: string) => void = () => {};
  onClient: (event: ClientEvent) => void = () => {};
}

/** Who asks sees to it that nothing else is asked at the same time of the same move: `busy` otherwise. */
export class VfServer {
  readonly mac: string;
  readonly #options: VfServerOptions;
  readonly #served: ServedVm;
  readonly #runner: DeviceRunner;
  readonly #uplink: Uplink;
  readonly #faultTimer: NodeJS.Timeout;
  #isReceiving = true;
  #hasClient = false;
  #client = new AbortController();
  #faultsTotal = 0;
  #job: { readonly kind: Job; readonly over: Promise<void>; readonly cancel: () => void } | undefined;
  #takeBack: (() => Promise<void>) | undefined;
  #forget: () => void = () => {};

  /**
   * Rejects with OperationError `native-missing`, `socket-in-use`, `socket-path-taken`, `socket-path-too-long`,
   * `mac-invalid`, or as openUplink.
   */
  static async listen(options: VfServerOptions): Promise<VfServer> {
    const native = options.isNative ? loadNative() : undefined;
    if (options.isNative && native === undefined) throw nativeMissing();
    const hub = new Hub();
    const uplink = await openUplink(options.uplink, hub);
    try {
      const served = await ServedVm.listen({
        socketPath: options.socketPath,
        mac: options.mac,
        uplink,
        clock: hostClock,
        native,
        allowUnsealed: options.allowUnsealed,
        onClient: (event) => hub.onClient(event),
      });
      return new VfServer(options, { served, uplink, hub });
    } catch (thrown) {
      await uplink.close();
      throw thrown;
    }
  }

  private constructor(options: VfServerOptions, parts: { served: ServedVm; uplink: Uplink; hub: Hub }) {
    const { served, uplink, hub } = parts;
    hub.onFrame = (frame) => this.#receive(frame);
    hub.onLink = (isUp, why) => this.#linkChanged(isUp, why);
    hub.onClient = (event) => this.#clientChanged(event);
    this.#options = options;
    this.mac = options.mac;
    this.#served = served;
    this.#uplink = uplink;
    this.#runner = new DeviceRunner(served.vf, hostClock);
    this.#showLink();
    this.#faultTimer = setInterval(() => this.#tellFaults(), FAULTS_LOOKED_AT_MS);
  }

  get status(): ServerStatus {
    const { shared } = this.#served;
    return {
      mac: this.mac,
      uplink: { kind: this.#options.uplink.kind, isUp: this.#uplink.isUp },
      client: shared === undefined ? (this.#hasClient ? "connected" : "none") : "shared",
      memoryBytes: shared?.memory.sizeBytes ?? null,
      job: this.#job?.kind ?? null,
      isOutcomeUnknown: this.#takeBack !== undefined,
      faults: this.#faultsTotal,
    };
  }

  /** Rejects with OperationError `busy`, or as moveFromHere. */
  move(request: MoveRequest, watcher: JobWatcher): Promise<JobEnd> {
    return this.#do("move", watcher, async (ground, watched) => {
      const { end, takeBack } = await moveFromHere(ground, request, watched);
      this.#takeBack = takeBack;
      return end;
    });
  }

  /** Rejects with OperationError `busy`, or as expectHere. */
  expect(request: ExpectRequest, watcher: JobWatcher): Promise<JobEnd> {
    return this.#do("expect", watcher, async (ground, watched) => {
      this.#forget();
      const { end, forget } = await expectHere(ground, request, watched);
      this.#forget = forget;
      return end;
    });
  }

  /** Rejects with OperationError `nothing-to-take-back`, or as QmpClient. */
  async takeBack(): Promise<JobEnd> {
    const takeBack = this.#takeBack;
    if (takeBack === undefined) throw nothingToTakeBack();
    this.#takeBack = undefined;
    await takeBack();
    return { kind: "taken-back" };
  }

  /** A move under way is cancelled, and its end waited for. Then the client loses its VF, and the sockets go. */
  async close(): Promise<void> {
    this.#job?.cancel();
    await this.#job?.over;
    this.#forget();
    clearInterval(this.#faultTimer);
    await this.#served.close();
    this.#runner.close();
    await this.#uplink.close();
  }

  async #do(
    kind: Job,
    watcher: JobWatcher,
    work: (ground: JobGround, watcher: JobWatcher) => Promise<JobEnd>,
  ): Promise<JobEnd> {
    if (this.#job !== undefined) throw busy(this.#job.kind);
    if (this.#takeBack !== undefined) throw outcomeUnknown();
    const over = Promise.withResolvers<void>();
    const closing = new AbortController();
    this.#job = { kind, over: over.promise, cancel: () => closing.abort() };
    const { onEvent } = this.#options;
    onEvent({ kind: "job-began", job: kind });
    try {
      const watched = { ...watcher, signal: AbortSignal.any([watcher.signal, closing.signal]) };
      const end = await work(this.#ground(), watched);
      onEvent({ kind: "job-ended", job: kind, end: end.kind, why: "failure" in end ? end.failure.message : "" });
      return end;
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      onEvent({ kind: "job-ended", job: kind, end: "failed", why });
      throw thrown;
    } finally {
      this.#job = undefined;
      over.resolve();
    }
  }

  #ground(): JobGround {
    return {
      served: this.#served,
      mac: this.mac,
      setReceiving: (isReceiving) => {
        this.#isReceiving = isReceiving;
      },
      send: (frame) => this.#uplink.frame(frame),
      showLink: () => this.#showLink(),
      clientGone: this.#client.signal,
    };
  }

  #receive(frame: Uint8Array): void {
    if (this.#isReceiving) this.#served.vf.receiveFrame(frame);
  }

  #showLink(): void {
    this.#served.vf.setLink(this.#uplink.isUp ? LINK_UP : LINK_DOWN);
  }

  #linkChanged(isUp: boolean, why: string): void {
    this.#showLink();
    this.#options.onEvent({ kind: "link", isUp, why });
  }

  #clientChanged(event: ClientEvent): void {
    this.#hasClient = event.kind !== "client-gone";
    if (event.kind === "client-gone") {
      this.#takeBack = undefined;
      this.#client.abort();
      this.#client = new AbortController();
    }
    this.#options.onEvent(event);
  }

  /** The log keeps the first ones until it is cleared, so each second begins with an empty one. */
  #tellFaults(): void {
    const { faults } = this.#served;
    const [first] = faults.recorded;
    if (first === undefined) return;
    const { total } = faults;
    this.#faultsTotal += total;
    faults.clear();
    const direction = first.access === DmaAccess.read ? "read" : "write";
    const what = `a ${direction} of ${first.lengthBytes} bytes at 0x${first.iova.toString(16)}`;
    this.#options.onEvent({ kind: "faults", count: total, first: what });
  }
}

function nativeMissing(): OperationError<"native-missing"> {
  return new OperationError({
    code: "native-missing",
    message: "The native calls that shared memory takes cannot be had here.",
    advice:
      "Install the optional package koffi (Linux, x86-64 or arm64), or give --no-native: the VF then works by messages only, and its guest cannot be moved.",
  });
}

function busy(job: Job): OperationError<"busy"> {
  return new OperationError({
    code: "busy",
    message: job === "move" ? "This VF's guest is being moved already." : "A guest is expected here already.",
    advice: "One sidecar at a time: wait for the other one, or end it.",
    facts: { job },
  });
}

function outcomeUnknown(): OperationError<"outcome-unknown"> {
  return new OperationError({
    code: "outcome-unknown",
    message: "An earlier move of this guest ended with nobody knowing whether it runs on the destination.",
    advice:
      "See whether it runs there. If it does, end this QEMU; if it does not and never will, take it back with --take-back.",
  });
}

function nothingToTakeBack(): OperationError<"nothing-to-take-back"> {
  return new OperationError({
    code: "nothing-to-take-back",
    message: "There is no guest here whose move ended with an unknown outcome.",
    advice: "A move that failed otherwise has left its guest running on the source; nothing is to be done.",
  });
}
