// The destination's host: waits for a source, takes its guest in, and announces where the guest now is.
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { assert } from "../base/assert.ts";
import { ImageRecorder, serializeImage } from "../audit/image-recorder.ts";
import { Destination, type PreparedVm } from "../migration/destination.ts";
import { runCommand } from "../machine/shell.ts";
import type { Offer } from "../migration/wire/protocol.ts";
import { announceDelaysMs, announceFrames } from "../network/announce.ts";
import { parseMac } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import type { VfState } from "../nic/state.ts";
import { hostClock } from "./clock.ts";
import { DeliveryClock } from "./delivery-clock.ts";
import { DeviceRunner } from "./device-runner.ts";
import { everySecond } from "./every-second.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { dropsSince, frameDrops, framesLost, type FrameDrops } from "../audit/frame-drops.ts";
import { expectGuest } from "./guests.ts";
import type { HostedGuest } from "./hosted-guest.ts";
import { refuseUnless } from "./refusal.ts";
import { listenTcp, type TcpAddress } from "./tcp-transport.ts";
import type { DestinationEvidence, GuestCommandResult, VmHostEvent, VmSettings } from "./vm-host-messages.ts";

interface Arrival {
  readonly guest: HostedGuest;
  readonly runner: DeviceRunner;
}

export class DestinationHost {
  readonly #settings: VmSettings;
  readonly #emit: (event: VmHostEvent) => void;
  readonly #deliveries = new DeliveryClock(hostClock);
  #image: ImageRecorder | undefined;
  #cable: Cable | undefined;
  /** Made before anyone connects: building a machine takes longer than a whole move may. */
  #spare: Arrival | undefined;
  #arrival: Arrival | undefined;
  #resumedWith: VfState | undefined;
  #interruptsBefore = 0;
  #dropsBefore: FrameDrops = {};

  constructor(settings: VmSettings, emit: (event: VmHostEvent) => void) {
    this.#settings = settings;
    this.#emit = emit;
  }

  async listen(): Promise<TcpAddress> {
    this.#cable = await plugCable(this.#settings.cable);
    this.#spare = await this.#makeGuest();
    const destination = new Destination({
      clock: hostClock,
      prepare: (offer) => this.#prepare(offer),
      machineStateVersion: this.#spare.guest.machineStateVersion,
      onEvent: (event) => this.#emit({ kind: "migration", event }),
      image: {
        page: (page, bytes) => this.#image?.page(page, bytes),
        zeroPage: (page) => this.#image?.zeroPage(page),
      },
      onRunning: (resumedWith) => this.#arrived(resumedWith),
      everySecond,
    });
    const listener = await listenTcp({ host: "127.0.0.1", port: 0 }, (transport) => void destination.serve(transport));
    return listener.address;
  }

  async #makeGuest(): Promise<Arrival> {
    assert(this.#cable !== undefined, "the cable is plugged in first");
    const guest = await expectGuest({ ...this.#settings, uplink: this.#cable, clock: hostClock });
    guest.vf.stop();
    this.#image = new ImageRecorder(guest.machine.memory.pages);
    return { guest, runner: new DeviceRunner(guest.vf, hostClock) };
  }

  async #prepare(offer: Offer): Promise<PreparedVm> {
    const { memoryBytes, mac } = this.#settings;
    refuseUnless(offer.memoryBytes === memoryBytes, `${offer.memoryBytes} bytes of memory`, "--memory");
    refuseUnless(offer.mac === mac, `the address ${offer.mac}`, "the VF's address");
    refuseUnless(this.#arrival === undefined, "a second guest", "another destination");
    const arrival = this.#spare ?? (await this.#makeGuest());
    this.#spare = undefined;
    this.#arrival = arrival;
    const { machine, vf, arriving, dma } = arrival.guest;
    await arrival.guest.prepareArrival(offer.machineHint);
    dma.addObserver(this.#deliveries);
    this.#interruptsBefore = vf.statistics.interruptsSent;
    return {
      machine,
      vf: arriving,
      discard: async () => {
        this.#arrival = undefined;
        arrival.runner.close();
        await arrival.guest.close();
      },
    };
  }

  #arrived(resumedWith: VfState): void {
    const { guest } = this.#running();
    this.#resumedWith = resumedWith;
    this.#dropsBefore = frameDrops(guest.vf.statistics);
    const cable = this.#cable;
    assert(cable !== undefined, "the cable was plugged in before anyone could connect");
    cable.onFrame = (frame) => guest.vf.receiveFrame(frame);
    for (const delayMs of announceDelaysMs) {
      const announce = (): void => {
        for (const frame of announceFrames(parseMac(this.#settings.mac), networkPlan.guestIp)) cable.frame(frame);
      };
      if (delayMs === 0) announce();
      else setTimeout(announce, delayMs).unref();
    }
  }

  #running(): Arrival {
    assert(this.#arrival !== undefined, "no guest has arrived");
    return this.#arrival;
  }

  runCommand(parameters: { command: string; timeoutMs: number }): Promise<GuestCommandResult> {
    return runCommand(this.#running().guest.console, parameters.command, parameters);
  }

  get framesDropped(): FrameDrops {
    return frameDrops(this.#running().guest.vf.statistics);
  }

  async evidence(directory: string): Promise<DestinationEvidence> {
    const { guest } = this.#running();
    assert(this.#resumedWith !== undefined && this.#image !== undefined, "there is evidence only of a guest that runs");
    const memoryFile = path.join(directory, "destination-memory");
    await writeFile(memoryFile, serializeImage(this.#image.bytes, guest.machine.memory.pages.sizeBytes));
    return {
      memoryFile,
      vfAtResume: this.#resumedWith,
      raisedEveryVector: guest.vf.statistics.interruptsSent > this.#interruptsBefore,
      firstDeliveryMs: this.#deliveries.firstMs,
      framesLost: framesLost(dropsSince(frameDrops(guest.vf.statistics), this.#dropsBefore)),
    };
  }
}
