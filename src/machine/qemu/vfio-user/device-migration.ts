// The device on its way through the migration states: what each arc does to it, and the state as a stream of bytes.
import { OperationError } from "../../../base/errors.ts";
import type { Fields, ReplyBuffer } from "./fields.ts";
import { DeviceState, isDeviceState, wayBetween } from "./migration-states.ts";
import { DATA_BYTES_MAX, Errno } from "./protocol.ts";
import type { MovableDevice } from "./served-device.ts";

/** struct vfio_user_mig_data before its data. */
const DATA_HEADER_BYTES = 8;
const nothing = new Uint8Array(0);

/** States in which the client reads the device's state. */
const saving: ReadonlySet<DeviceState> = new Set([DeviceState.preCopy, DeviceState.preCopyP2p, DeviceState.stopCopy]);
/** States in which the device does its work. */
const working: ReadonlySet<DeviceState> = new Set([DeviceState.running, DeviceState.preCopy]);

/**
 * How the states map onto a VF:
 * - RUNNING and PRE_COPY: it runs. In all other states it is stopped and drained, in the P2P ones too: those allow DMA to
 *   RAM but not to other devices, and a card cannot tell from an address which of the two is behind it.
 * - PRE_COPY offers no bytes: a VF's state is a few KiB, and all of it may change with the next frame.
 * - STOP_COPY offers the whole state, saved as the state is entered. RESUMING takes it; leaving RESUMING loads it, and a
 *   state that cannot be loaded leaves the device in ERROR, which only a reset ends.
 */
export class DeviceMigration {
  /** The device has been given a new state. */
  onRestored: () => void = () => {};
  readonly #device: MovableDevice;
  #state: DeviceState = DeviceState.running;
  /** What is left to read in STOP_COPY. */
  #outgoing: Uint8Array = nothing;
  /** What was written in RESUMING. */
  #incoming: Uint8Array[] = [];
  #incomingBytes = 0;

  constructor(device: MovableDevice) {
    this.#device = device;
  }

  get state(): DeviceState {
    return this.#state;
  }

  /** Goes to another state, one arc after the other; where an arc fails the device stays as far as it got, or in ERROR. */
  setState(to: number): Errno {
    if (!isDeviceState(to)) return Errno.invalid;
    const way = wayBetween(this.#state, to);
    if (way === undefined) return Errno.invalid;
    for (const next of way) {
      if (!this.#take(next)) return Errno.invalid;
    }
    return Errno.none;
  }

  /** The device was reset: it runs, and what was half moved is forgotten. */
  wasReset(): void {
    this.#endTransfer();
    this.#state = DeviceState.running;
  }

  /**
   * MIG_DATA_READ: less than was asked for means that this was the end, of what there is in this state. The reply is as long
   * as if all of it had come: libvfio-user's server answers so, and its client takes a shorter one for a broken connection.
   */
  read(request: Fields, reply: ReplyBuffer, dataBytesMax: number): Errno {
    if (request.length < DATA_HEADER_BYTES) return Errno.invalid;
    const argsz = request.u32(0);
    const wanted = request.u32(4);
    if (!saving.has(this.#state) || wanted > dataBytesMax || argsz < DATA_HEADER_BYTES + wanted) return Errno.invalid;
    const data = this.#outgoing.subarray(0, wanted);
    this.#outgoing = this.#outgoing.subarray(data.length);
    const fields = reply.payload(DATA_HEADER_BYTES + wanted);
    fields
      .setU32(0, DATA_HEADER_BYTES + data.length)
      .setU32(4, data.length)
      .bytes.set(data, DATA_HEADER_BYTES);
    return Errno.none;
  }

  /** MIG_DATA_WRITE. */
  write(request: Fields): Errno {
    if (request.length < DATA_HEADER_BYTES) return Errno.invalid;
    const size = request.u32(4);
    if (this.#state !== DeviceState.resuming || size > DATA_BYTES_MAX) return Errno.invalid;
    if (request.length !== DATA_HEADER_BYTES + size) return Errno.invalid;
    if (this.#incomingBytes + size > this.#device.stateBytesMax) return Errno.noSpace;
    this.#incomingBytes += size;
    if (size > 0) this.#incoming.push(request.bytes.slice(DATA_HEADER_BYTES));
    return Errno.none;
  }

  /** Takes one arc. */
  #take(to: DeviceState): boolean {
    const from = this.#state;
    if (working.has(from) && !working.has(to)) this.#device.stop();
    if (from === DeviceState.resuming && !this.#load()) {
      this.#endTransfer();
      this.#state = DeviceState.error;
      return false;
    }
    this.#endTransfer();
    if (to === DeviceState.stopCopy) this.#outgoing = this.#device.save();
    if (!working.has(from) && working.has(to)) this.#device.start();
    this.#state = to;
    return true;
  }

  #load(): boolean {
    try {
      this.#device.restore(concatenate(this.#incoming, this.#incomingBytes));
    } catch (error) {
      if (error instanceof OperationError) return false;
      throw error;
    }
    this.onRestored();
    return true;
  }

  #endTransfer(): void {
    this.#outgoing = nothing;
    this.#incoming = [];
    this.#incomingBytes = 0;
  }
}

function concatenate(pieces: readonly Uint8Array[], lengthBytes: number): Uint8Array {
  const whole = new Uint8Array(lengthBytes);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
