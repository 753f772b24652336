// A device served to one client after the other: what lasts, and what ends with each of them.
import type { Domain } from "../../../iommu/domain.ts";
import type { MessageChannel } from "./channel.ts";
import { DeviceFeature } from "./device-feature.ts";
import { DeviceMigration } from "./device-migration.ts";
import type { DmaLog } from "./dma-log.ts";
import { DmaRegions, type SharedFiles } from "./dma-regions.ts";
import { Irqs, type EventDescriptors, type VectorMessages } from "./irqs.ts";
import { MsixLocation } from "./msix-location.ts";
import type { Command } from "./protocol.ts";
import { Regions } from "./regions.ts";
import type { ReplyListener } from "./requests.ts";
import type { ServedDevice } from "./served-device.ts";
import { ServedSession, type DeviceParts } from "./session.ts";
import type { ClientLimits } from "./version.ts";

export interface DeviceServerOptions {
  readonly device: ServedDevice;
  /** The sink of the device's MSI-X messages; it was made before the device. */
  readonly messages: VectorMessages;
  /** The domain behind the device's DMA port; nobody else maps in it. */
  readonly domain: Domain;
  /** Gets what the client maps and does not share, each page leading nowhere in particular. */
  readonly unshared?: Domain;
  /** The log behind the device's DMA port. */
  readonly log: DmaLog;
  /** Shared memory and eventfds; without the native calls that they take, both are left out. */
  readonly files?: SharedFiles;
  readonly events?: EventDescriptors;
  /** Raises a vector without an eventfd, for clients whose descriptors do not come through. */
  readonly raiseByMessage?: (vector: number) => void;
  /** A client has come and speaks our version. */
  readonly onNegotiated?: (client: ClientLimits) => void;
  /**
   * The client has gone, and with it all that it mapped; the device is as after power-on. `problem` is a sentence if it
   * was cut off for something it did.
   */
  readonly onClientGone?: (problem: string | undefined) => void;
}

/**
 * One client at a time. When it goes its memory is unmapped, its descriptors are closed and the device is reset: the
 * specification would have the state retained for a client that comes back, but the clients there are never do, and the
 * next one's guest must find no card that still knows the last one's addresses.
 */
export class DeviceServer {
  readonly #options: DeviceServerOptions;
  readonly #parts: DeviceParts;
  #session: ServedSession | undefined;

  constructor(options: DeviceServerOptions) {
    const { device, messages, domain, unshared, log, files, events, raiseByMessage } = options;
    const msix = new MsixLocation(device.pci);
    const migration = new DeviceMigration(device.migration);
    this.#options = options;
    this.#parts = {
      device,
      migration,
      regions: new Regions(device.pci, msix),
      irqs: new Irqs({ pci: device.pci, msix, messages, events, raiseByMessage }),
      dma: new DmaRegions({ domain, unshared, files, log }),
      feature: new DeviceFeature(migration, log),
    };
    migration.onRestored = () => this.deviceRestored();
  }

  /** What the client can take; undefined while there is none, or it has not said. */
  get client(): ClientLimits | undefined {
    return this.#session?.client;
  }

  /** DMA the client refused, of what was asked of it without wanting a reply. */
  get requestsRefused(): number {
    return this.#session?.requestsRefused ?? 0;
  }

  /** Takes a client that has connected. One that comes while another is here is sent away: false. */
  serve(channel: MessageChannel): boolean {
    if (this.#session !== undefined) {
      channel.close();
      return false;
    }
    this.#session = new ServedSession(channel, this.#parts, {
      onNegotiated: (client) => this.#options.onNegotiated?.(client),
      onEnd: (problem) => this.#clientGone(problem),
    });
    return true;
  }

  /** See ServedSession.request; false also when there is no client. */
  request(command: Command, payload: Uint8Array, onReply?: ReplyListener): boolean {
    return this.#session?.request(command, payload, onReply) ?? false;
  }

  /** Somebody else than the client gave the device a new state: its vector table is to be ours again. */
  deviceRestored(): void {
    this.#parts.irqs.programTable();
  }

  /** Sends the client away. `onClientGone` follows. */
  disconnect(): void {
    this.#session?.end();
  }

  #clientGone(problem: string | undefined): void {
    const { device, dma, irqs, migration } = this.#parts;
    this.#session = undefined;
    dma.unmapAll();
    this.#options.log.stop();
    irqs.releaseAll();
    device.reset();
    migration.wasReset();
    irqs.programTable();
    this.#options.onClientGone?.(problem);
  }
}
