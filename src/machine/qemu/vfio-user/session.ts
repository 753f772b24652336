// One client's conversation with the served device: who may say what when, and each command to the part that knows it.
import { COMMAND_BUS_MASTER, ConfigurationOffset } from "../../../pci/configuration-space.ts";
import type { MessageChannel, ReceivedMessage } from "./channel.ts";
import { Descriptors } from "./descriptors.ts";
import type { DeviceFeature } from "./device-feature.ts";
import type { DeviceMigration } from "./device-migration.ts";
import type { DmaRegions } from "./dma-regions.ts";
import { Fields, ReplyBuffer } from "./fields.ts";
import type { Irqs } from "./irqs.ts";
import {
  Command,
  DEVICE_FLAG_PCI,
  DEVICE_FLAG_RESET,
  Errno,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  FLAG_TYPE_MASK,
  PCI_IRQS,
  PCI_REGIONS,
  REGION_CONFIGURATION,
  TYPE_COMMAND,
  TYPE_REPLY,
} from "./protocol.ts";
import type { Regions } from "./regions.ts";
import { Requests, type ReplyListener } from "./requests.ts";
import type { ServedDevice } from "./served-device.ts";
import { negotiate, type ClientLimits } from "./version.ts";

/** struct vfio_user_device_info; struct vfio_user_dma_region_access before its data. */
const DEVICE_INFO_BYTES = 16;
const DMA_ACCESS_BYTES = 16;

/** The device's side, which outlives each client. */
export interface DeviceParts {
  readonly device: ServedDevice;
  readonly regions: Regions;
  readonly irqs: Irqs;
  readonly dma: DmaRegions;
  readonly migration: DeviceMigration;
  readonly feature: DeviceFeature;
}

export interface SessionEvents {
  /** The client speaks our version. */
  readonly onNegotiated: (client: ClientLimits) => void;
  /** The connection is over; `problem` is a sentence if it was the client's fault. Called once, from the event loop. */
  readonly onEnd: (problem: string | undefined) => void;
}

/**
 * Commands are carried out in the order they come, each whole before its reply is sent. What a client may get wrong in a
 * command is answered with an errno; what makes the rest of the stream meaningless ends the connection: anything before
 * VERSION, a version we do not speak, a message that is neither command nor reply, a reply to nothing that was asked.
 */
export class ServedSession {
  readonly #channel: MessageChannel;
  readonly #parts: DeviceParts;
  readonly #events: SessionEvents;
  readonly #requests: Requests;
  readonly #reply = new ReplyBuffer();
  #client: ClientLimits | undefined;
  #problem: string | undefined;

  constructor(channel: MessageChannel, parts: DeviceParts, events: SessionEvents) {
    this.#channel = channel;
    this.#parts = parts;
    this.#events = events;
    this.#requests = new Requests((message) => channel.send(message));
    channel.onMessage = (message) => this.#receive(message);
    channel.onClosed = (problem) => {
      this.#client = undefined;
      events.onEnd(this.#problem ?? problem);
    };
  }

  /** What the client can take; undefined before VERSION and after the end. */
  get client(): ClientLimits | undefined {
    return this.#client;
  }

  /** DMA that was asked of the client without wanting a reply, and that it refused. */
  get requestsRefused(): number {
    return this.#requests.refused;
  }

  /**
   * Sends DMA_READ or DMA_WRITE; its listener gets the reply, and never anything if the client goes before. Without a
   * listener the client is told not to reply. False, and nothing is sent, when the client cannot be asked: not negotiated, bus
   * mastering off (a request before that ends QEMU's start-up), more data than it takes, or too many replies due.
   */
  request(command: Command, payload: Uint8Array, onReply?: ReplyListener): boolean {
    const client = this.#client;
    if (client === undefined || !this.#isBusMaster()) return false;
    if (payload.length > DMA_ACCESS_BYTES + client.dataBytesMax) return false;
    return this.#requests.send(command, payload, onReply);
  }

  /** Ends the connection, because of what the client did if there is a `problem`. */
  end(problem?: string): void {
    this.#problem ??= problem;
    this.#client = undefined;
    this.#channel.close();
  }

  #isBusMaster(): boolean {
    const command = this.#parts.device.pci.readConfiguration(ConfigurationOffset.command, 2);
    return (command & COMMAND_BUS_MASTER) !== 0;
  }

  #receive(message: ReceivedMessage): void {
    const descriptors = new Descriptors(message.descriptors);
    const type = message.flags & FLAG_TYPE_MASK;
    if (type === TYPE_REPLY) this.#takeReply(message);
    else if (type === TYPE_COMMAND) this.#takeCommand(message, descriptors);
    else this.end(`it sent a message of type ${type}, which is neither a command nor a reply`);
    if (descriptors.count > 0) this.#channel.closeDescriptors(descriptors.left);
  }

  #takeReply({ id, command, flags, payload }: ReceivedMessage): void {
    if (this.#requests.answered(id, command, { flags, payload })) return;
    this.end(`it sent a reply to command ${command} with id ${id}, which nobody had asked for`);
  }

  #takeCommand(message: ReceivedMessage, descriptors: Descriptors): void {
    this.#reply.clear();
    if (this.#client === undefined) {
      if (!this.#takeVersion(message)) return;
      this.#answer(message, Errno.none);
      return;
    }
    this.#answer(message, this.#carryOut(message.command, new Fields(message.payload), descriptors));
  }

  #takeVersion({ command, payload }: ReceivedMessage): boolean {
    if (command !== Command.version) {
      this.end(`it sent command ${command} before it had named its version`);
      return false;
    }
    const negotiation = negotiate(payload);
    if (negotiation.kind === "refused") {
      this.end(negotiation.problem);
      return false;
    }
    this.#client = negotiation.client;
    this.#reply.echo(negotiation.reply);
    this.#events.onNegotiated(negotiation.client);
    return true;
  }

  #answer({ id, command, flags }: ReceivedMessage, error: Errno): void {
    if ((flags & FLAG_NO_REPLY) !== 0) return;
    if (error !== Errno.none) this.#reply.clear();
    const replyFlags = TYPE_REPLY | (error === Errno.none ? 0 : FLAG_ERROR);
    this.#channel.send(this.#reply.seal({ id, command, flags: replyFlags, error }));
  }

  /** Fills in the reply. An error's reply is its header only. */
  #carryOut(command: number, request: Fields, descriptors: Descriptors): Errno {
    const { regions, irqs, dma, migration, feature } = this.#parts;
    const reply = this.#reply;
    switch (command) {
      case Command.regionRead:
        return regions.read(request, reply);
      case Command.regionWrite:
        return this.#write(request);
      case Command.regionWriteMulti:
        return this.#writeMulti(request);
      case Command.dmaMap:
        return dma.map(request, descriptors);
      case Command.dmaUnmap:
        return dma.unmap(request, reply);
      case Command.deviceGetInfo:
        return deviceInfo(request, reply);
      case Command.deviceGetRegionInfo:
        return regions.info(request, reply);
      case Command.deviceGetRegionIoFds:
        return regions.ioDescriptors(request, reply);
      case Command.deviceGetIrqInfo:
        return irqs.info(request, reply);
      case Command.deviceSetIrqs:
        return irqs.set(request, descriptors);
      case Command.deviceReset:
        return this.#reset();
      case Command.deviceFeature:
        return feature.handle(request, reply);
      case Command.migrationDataRead:
        return migration.read(request, reply, this.#client?.dataBytesMax ?? 0);
      case Command.migrationDataWrite:
        return migration.write(request);
      default:
        // A second VERSION, the server's own commands, and numbers that mean nothing.
        return Errno.invalid;
    }
  }

  #write(request: Fields): Errno {
    const error = this.#parts.regions.write(request, this.#reply);
    // Memory decoding may have come on, or a function-level reset have emptied the vector table.
    if (error === Errno.none && request.u32(8) === REGION_CONFIGURATION) this.#parts.irqs.programTable();
    return error;
  }

  #writeMulti(request: Fields): Errno {
    const error = this.#parts.regions.writeMulti(request, this.#reply);
    this.#parts.irqs.programTable();
    return error;
  }

  #reset(): Errno {
    const { device, migration, irqs } = this.#parts;
    device.reset();
    migration.wasReset();
    irqs.programTable();
    return Errno.none;
  }
}

/** DEVICE_GET_INFO. */
function deviceInfo(request: Fields, reply: ReplyBuffer): Errno {
  if (request.length < DEVICE_INFO_BYTES || request.u32(0) < DEVICE_INFO_BYTES) return Errno.invalid;
  reply
    .payload(DEVICE_INFO_BYTES)
    .setU32(0, DEVICE_INFO_BYTES)
    .setU32(4, DEVICE_FLAG_RESET | DEVICE_FLAG_PCI)
    .setU32(8, PCI_REGIONS)
    .setU32(12, PCI_IRQS);
  return Errno.none;
}
