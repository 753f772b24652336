// struct msghdr as sendmsg(2) and recvmsg(2) take it: one buffer, and the file descriptors that go along with its bytes.

/** Linux's numbers (include/linux/socket.h, include/uapi/asm-generic/socket.h). */
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;

const none: readonly number[] = [];

const MESSAGE_HEADER_BYTES = 56;
const CONTROL_HEADER_BYTES = 16;

/**
 * struct msghdr with one buffer and room for one control message of descriptors: recvmsg(2), cmsg(3), unix(7). The layout
 * is that of 64-bit little-endian Linux; the lengths that musl keeps in 32 bits have zeros beside them.
 */
export class SocketMessage {
  readonly header: Uint8Array;
  readonly #fields: DataView;
  readonly #control: DataView;
  /** Kept from the garbage collector: the header knows its address. */
  readonly #buffer: Uint8Array;
  readonly #vector: BigUint64Array;

  constructor(
    addressOf: (memory: ArrayBuffer | ArrayBufferView) => bigint,
    buffer: Uint8Array,
    descriptorsMax: number,
  ) {
    // The bytes of an ArrayBuffer lie outside of V8's heap, where nothing moves; whoever asks for a small array's address
    // has them moved there.
    const fields = new ArrayBuffer(MESSAGE_HEADER_BYTES);
    const control = new ArrayBuffer(CONTROL_HEADER_BYTES + Math.ceil(descriptorsMax / 2) * 8);
    this.header = new Uint8Array(fields);
    this.#fields = new DataView(fields);
    this.#control = new DataView(control);
    this.#buffer = buffer;
    this.#vector = new BigUint64Array(new ArrayBuffer(16));
    this.#vector[0] = addressOf(this.#buffer);
    this.#vector[1] = BigInt(this.#buffer.length);
    this.#fields.setBigUint64(16, addressOf(this.#vector), true);
    this.#fields.setBigUint64(24, 1n, true);
    this.#fields.setBigUint64(32, addressOf(control), true);
  }

  /** Gives the kernel the whole room for descriptors, which the last call took away. */
  prepare(): void {
    this.#fields.setUint32(40, this.#control.byteLength, true);
    this.#fields.setUint32(44, 0, true);
    this.#fields.setInt32(48, 0, true);
  }

  get isCutShort(): boolean {
    return (this.#fields.getInt32(48, true) & MSG_CTRUNC) !== 0;
  }

  takeDescriptors(): readonly number[] {
    const length = this.#fields.getUint32(40, true);
    if (length < CONTROL_HEADER_BYTES) return none;
    const isRights = this.#control.getInt32(8, true) === SOL_SOCKET && this.#control.getInt32(12, true) === SCM_RIGHTS;
    if (!isRights) return none;
    const end = Math.min(this.#control.getUint32(0, true), this.#control.byteLength);
    const descriptors: number[] = [];
    for (let at = CONTROL_HEADER_BYTES; at + 4 <= end; at += 4) descriptors.push(this.#control.getInt32(at, true));
    return descriptors;
  }

  putDescriptors(descriptors: readonly number[]): void {
    const length = CONTROL_HEADER_BYTES + descriptors.length * 4;
    this.#control.setBigUint64(0, BigInt(length), true);
    this.#control.setInt32(8, SOL_SOCKET, true);
    this.#control.setInt32(12, SCM_RIGHTS, true);
    descriptors.forEach((descriptor, i) => this.#control.setInt32(CONTROL_HEADER_BYTES + i * 4, descriptor, true));
    this.#fields.setBigUint64(40, BigInt(length), true);
  }
}
