// A host's side of the fabric for a failover pair, whose VF and virtio-net card have one address: one cable, or two.
import { createServer, type Server, type Socket } from "node:net";
import type { FrameSink } from "../nic/ports.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { StreamCable } from "./stream-cable.ts";

export interface PairedUplinkOptions {
  /** The fabric's socket to plug into. */
  readonly cable: string;
  /** Where QEMU plugs its virtio-net card in. */
  readonly virtioSocketPath: string;
  /** A second socket of the fabric, for the VF alone. */
  readonly vfCable?: string;
}

/** Who gets a frame for the pair: cards of one address cannot both have what is for it alone. */
export function takersOf(frame: Uint8Array, vfTakesFrames: boolean): { vf: boolean; virtio: boolean } {
  const isForMany = ((frame[0] ?? 0) & 1) !== 0;
  return { vf: vfTakesFrames, virtio: isForMany || !vfTakesFrames };
}

/**
 * With one cable, what the switch in an SR-IOV card and the host's bridge do together: frames for the pair's address go to the VF while its
 * driver takes any, otherwise to virtio-net; what either card sends leaves by the same port, so that no switch outside ever
 * learns of the change. Where management has to do that by hand (net_failover.rst: `bridge fdb`, `ip link set PF vf N mac`)
 * a guest is dark for as long as it takes; here nothing of that is held against failover. With two cables there is nobody who
 * does it: the fabric sends frames to where it last saw the guest, as any switch does.
 */
export class PairedUplink {
  /** Takes the frames that the VF sends. */
  readonly fromVf: FrameSink;
  /** The owner sets them: whether the VF's driver takes frames now, and where they go. */
  vfTakesFrames: () => boolean = () => false;
  toVf: (frame: Uint8Array) => void = () => {};
  readonly #cable: Cable;
  readonly #server: Server;
  readonly #vfCable: Cable | undefined;
  #virtio: StreamCable | undefined;

  /** Rejects with OperationError `fabric-unreachable`, or as the system does where it cannot listen. */
  static async open({ cable, virtioSocketPath, vfCable }: PairedUplinkOptions): Promise<PairedUplink> {
    const own = vfCable === undefined ? undefined : await plugCable(vfCable);
    const uplink = new PairedUplink(await plugCable(cable), own);
    await new Promise<void>((resolve, reject) => {
      uplink.#server.once("error", reject);
      uplink.#server.listen(virtioSocketPath, resolve);
    });
    return uplink;
  }

  private constructor(cable: Cable, vfCable: Cable | undefined) {
    this.#cable = cable;
    this.#vfCable = vfCable;
    this.fromVf = vfCable ?? cable;
    if (vfCable !== undefined) vfCable.onFrame = (frame) => void (this.vfTakesFrames() && this.toVf(frame));
    cable.onFrame = (frame) => this.#fromFabric(frame);
    this.#server = createServer((socket) => this.#plugged(socket));
  }

  #fromFabric(frame: Uint8Array): void {
    const takers = takersOf(frame, this.#vfCable === undefined && this.vfTakesFrames());
    if (takers.vf) this.toVf(frame);
    if (takers.virtio) this.#virtio?.send(frame);
  }

  #plugged(socket: Socket): void {
    this.#server.close();
    this.#virtio = new StreamCable(socket, {
      onFrame: (frame) => this.#cable.frame(frame),
      onClosed: () => {
        this.#virtio = undefined;
      },
    });
  }

  close(): void {
    this.#server.close();
    this.#virtio?.close();
    this.#cable.close();
    this.#vfCable?.close();
  }
}
