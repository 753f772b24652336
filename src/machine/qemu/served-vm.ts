// One VF served at a socket, and the guest memory that its client shares: what a QEMU's VM looks like from our side.
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { OperationError } from "../../base/errors.ts";
import { Domain, type Mapping } from "../../iommu/domain.ts";
import { DmaAccess, FaultLog } from "../../iommu/fault-log.ts";
import { GuestDma } from "../../iommu/guest-dma.ts";
import { DmaDirtyLog } from "../../memory/dirty-log.ts";
import { parseMac, writeMac } from "../../network/mac.ts";
import { MAC_BYTES } from "../../nic/mac-address.ts";
import type { FrameSink } from "../../nic/ports.ts";
import { Vf82599, type ReceiveRingWatcher } from "../../nic/vf82599.ts";
import type { Native } from "./native.ts";
import { LateListener, ServedTracker } from "./served-tracker.ts";
import { SharedMemory } from "./shared-memory.ts";
import type { ChannelListener } from "./vfio-user/channel.ts";
import { DeviceServer } from "./vfio-user/device-server.ts";
import { DmaLog, ServedDma } from "./vfio-user/dma-log.ts";
import { messageRequester } from "./vfio-user/dma-requester.ts";
import { listenWithDescriptors } from "./vfio-user/fd-channel.ts";
import { VectorMessages } from "./vfio-user/irqs.ts";
import { MessageDma } from "./vfio-user/message-dma.ts";
import { MessageInterrupts } from "./vfio-user/message-interrupts.ts";
import { MsixLocation } from "./vfio-user/msix-location.ts";
import { RoutedDma } from "./vfio-user/routed-dma.ts";
import { servedVf } from "./vfio-user/served-device.ts";
import { listenOnStream } from "./vfio-user/stream-channel.ts";
import { ToldFaults } from "./vfio-user/told-faults.ts";

export interface ServedVmOptions {
  readonly socketPath: string;
  /** The VF's address, given by its PF. */
  readonly mac: string;
  readonly uplink: FrameSink;
  readonly clock: Clock;
  /** Without it nothing is shared: DMA and interrupts go by messages, and the VM cannot be migrated. */
  readonly native: Native | undefined;
  /** See SharedMemoryOptions. */
  readonly allowUnsealed?: boolean;
  readonly onClient?: (event: ClientEvent) => void;
}

export type ClientEvent =
  | { readonly kind: "client-came" }
  | { readonly kind: "memory-shared"; readonly memoryBytes: number }
  /** `problem` is a sentence if it was cut off for something it did. */
  | { readonly kind: "client-gone"; readonly problem: string | undefined };

/** What there is once the client has shared its memory. */
export interface SharedParts {
  readonly memory: SharedMemory;
  readonly dma: GuestDma;
  readonly tracker: ServedTracker;
  readonly deviceLog: DmaDirtyLog;
}

type ArrivingVf = Pick<Vf82599, "save" | "restore" | "stop" | "start" | "pfReset" | "raiseAllEnabled">;

/** The VF lasts; clients, and what they share, come and go one after the other. */
export class ServedVm {
  readonly vf: Vf82599;
  readonly #options: ServedVmOptions;
  readonly #listener = new LateListener();
  readonly #domain = new Domain({ listener: this.#listener });
  readonly #unshared = new Domain();
  readonly #log = new DmaLog();
  readonly #port = new ServedDma(this.#log);
  readonly #messageDma: MessageDma;
  readonly #messageInterrupts: MessageInterrupts;
  readonly #memory: SharedMemory | undefined;
  readonly #server: DeviceServer;
  readonly #registers: Uint32Array;
  readonly #onClientGone = new Set<() => void>();
  #sockets: ChannelListener | undefined;
  #shared: SharedParts | undefined;
  readonly #waiting = new Set<() => void>();

  /** Rejects with OperationError `socket-in-use`, `socket-path-taken` or `socket-path-too-long`. */
  static async listen(options: ServedVmOptions): Promise<ServedVm> {
    const vm = new ServedVm(options);
    const { socketPath: path, native } = options;
    const listening = {
      path,
      onConnection: (channel: Parameters<DeviceServer["serve"]>[0]) => vm.#server.serve(channel),
    };
    vm.#sockets =
      native === undefined ? await listenOnStream(listening) : await listenWithDescriptors(native, listening);
    return vm;
  }

  private constructor(options: ServedVmOptions) {
    const { native, clock, uplink } = options;
    this.#options = options;
    const messages = new VectorMessages();
    const mac = new Uint8Array(MAC_BYTES);
    writeMac(mac, 0, parseMac(options.mac));
    this.vf = new Vf82599({ dma: this.#port, messages, uplink, clock, mac });
    const requester = messageRequester((command, payload, onReply) => this.#server.request(command, payload, onReply));
    this.#messageDma = new MessageDma({
      requester,
      faults: new FaultLog(),
      transferBytesMax: () => this.#server.client?.dataBytesMax ?? 0,
    });
    this.#messageDma.onAnswer = () => this.vf.wake();
    this.#messageInterrupts = this.#makeMessageInterrupts(requester);
    this.#memory = native === undefined ? undefined : new SharedMemory(native, options);
    this.#server = new DeviceServer({
      device: servedVf(this.vf),
      messages,
      domain: this.#domain,
      unshared: this.#unshared,
      log: this.#log,
      ...(this.#memory === undefined || native === undefined ? {} : { files: this.#memory, events: native }),
      ...(native === undefined ? { raiseByMessage: (vector: number) => this.#messageInterrupts.raise(vector) } : {}),
      onNegotiated: () => this.#clientCame(),
      onClientGone: (problem) => this.#clientGone(problem),
    });
    const watch = this.#watchRings();
    this.#registers = watch;
    this.#memory?.onKnown(() => this.#memoryShared());
    this.#port.connect(this.#messageDma);
  }

  /** Undefined until a client has shared its memory, and when it has gone. */
  get shared(): SharedParts | undefined {
    return this.#shared;
  }

  /** Resolves when the client has shared its memory. Rejects with OperationError `memory-not-shared` after that time. */
  async untilShared(timeoutMs: number): Promise<SharedParts> {
    if (this.#shared !== undefined) return this.#shared;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
    if (this.#shared === undefined) throw notShared(timeoutMs);
    return this.#shared;
  }

  /** Guest physical address behind an address the device uses, or -1 if the device may not use it. */
  translate(iova: number): number {
    const address = this.#domain.translate(iova, DmaAccess.read);
    return address >= 0 ? address : -1;
  }

  /** What the client lets the VF reach now. */
  mappings(): Mapping[] {
    return this.#domain.mappings();
  }

  /** The VF as somebody else than its client restores it. */
  readonly arriving: ArrivingVf = {
    save: () => this.vf.save(),
    restore: (state) => {
      this.vf.restore(state);
      this.#server.deviceRestored();
    },
    stop: () => this.vf.stop(),
    start: () => this.vf.start(),
    pfReset: (means) => this.vf.pfReset(means),
    raiseAllEnabled: () => this.vf.raiseAllEnabled(),
  };

  /** Aborted with this reason when the client of now goes. */
  clientLost(reason: Error): AbortSignal {
    const controller = new AbortController();
    this.#onClientGone.add(() => controller.abort(reason));
    return controller.signal;
  }

  /** DMA that went nowhere: the last ones, and how many. */
  get faults(): FaultLog {
    return this.#domain.faults;
  }

  async close(): Promise<void> {
    this.#server.disconnect();
    await this.#sockets?.close();
  }

  #makeMessageInterrupts(requester: ReturnType<typeof messageRequester>): MessageInterrupts {
    const msix = new MsixLocation(this.vf);
    return new MessageInterrupts({
      requester,
      vectors: msix.vectors,
      tableAddress: () => {
        const base = this.vf.barAddress(msix.bar);
        return base < 0 ? -1 : base + msix.tableOffset;
      },
      after: (delayMs, callback) => void setTimeout(callback, delayMs).unref(),
    });
  }

  /** The tracker is another one with each client; the VF knows one who passes on to it. Gives the VF's registers. */
  #watchRings(): Uint32Array {
    let found: Uint32Array | undefined;
    this.vf.watchReceiveRings((registers): ReceiveRingWatcher => {
      found = registers;
      return {
        tailWritten: (queue) => this.#shared?.tracker.tailWritten(queue),
        queueChanged: (queue) => this.#shared?.tracker.queueChanged(queue),
        rebuild: () => this.#shared?.tracker.rebuild(),
      };
    });
    assert(found !== undefined, "the VF gives its registers at once");
    return found;
  }

  #memoryShared(): void {
    const memory = this.#memory;
    assert(memory !== undefined, "memory is known only where it can be shared");
    const { pages, sizeBytes } = memory;
    const deviceLog = new DmaDirtyLog(pages.count, pages.shift);
    const dma = new GuestDma({
      memory,
      domain: this.#domain,
      observers: [{ after: (address, length) => deviceLog.deviceWrote(address, length) }],
    });
    const tracker = new ServedTracker({
      registers: this.#registers,
      dma,
      pages,
      queuePairs: this.vf.queuePairs,
      domain: this.#domain,
      listener: this.#listener,
    });
    this.#shared = { memory, dma, tracker, deviceLog };
    this.#port.connect(
      new RoutedDma({ shared: this.#toldFaults(dma), messages: this.#messageDma, unshared: this.#unshared }),
    );
    this.#options.onClient?.({ kind: "memory-shared", memoryBytes: sizeBytes });
    for (const resolve of this.#waiting) resolve();
  }

  /** What faults the client hears of, so that the guest's IOMMU does. */
  #toldFaults(dma: GuestDma): ToldFaults {
    return new ToldFaults(dma, (command, payload, onReply) => this.#server.request(command, payload, onReply));
  }

  #clientCame(): void {
    this.#options.onClient?.({ kind: "client-came" });
  }

  #clientGone(problem: string | undefined): void {
    this.#shared = undefined;
    this.#listener.listener = undefined;
    this.#port.connect(this.#messageDma);
    this.#memory?.release();
    this.#messageDma.clientGone();
    this.#messageInterrupts.reset();
    for (const listener of this.#onClientGone) listener();
    this.#onClientGone.clear();
    this.#options.onClient?.({ kind: "client-gone", problem });
  }
}

function notShared(timeoutMs: number): OperationError<"memory-not-shared"> {
  return new OperationError({
    code: "memory-not-shared",
    message: `No client has shared its memory within ${timeoutMs / 1000} s.`,
    advice: "Start QEMU with -object memory-backend-memfd,share=on as its machine's memory, and the VF's socket.",
  });
}
