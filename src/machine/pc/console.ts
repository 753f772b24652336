// The guest's serial console: text out as it comes, text in when the guest may take it.
import type { Console } from "../machine.ts";
import type { SerialInput } from "./machine-state.ts";
import type { V86Emulator } from "./v86-internals.ts";

/** Of a guest that talks without end, this much of the latest output is kept. */
const outputCharactersMax = 4 << 20;

/**
 * Output is UTF-8, handed to listeners once per tick of the emulator. Input reaches the serial port only between ticks
 * of a guest that runs, since it raises an interrupt; what is sent while it is paused is held, and is part of the saved
 * state, as are the bytes in the port that the guest has not read.
 */
export class SerialConsole implements Console, SerialInput {
  readonly #emulator: V86Emulator;
  readonly #canDeliver: () => boolean;
  readonly #listeners = new Set<(text: string) => void>();
  #decoder = new TextDecoder();
  #output = "";
  #received: number[] = [];
  #held: number[] = [];

  constructor(emulator: V86Emulator, canDeliver: () => boolean) {
    this.#emulator = emulator;
    this.#canDeliver = canDeliver;
    emulator.add_listener("serial0-output-byte", (byte) => this.#received.push(byte));
  }

  get output(): string {
    return this.#output;
  }

  send(text: string): void {
    this.#held.push(...new TextEncoder().encode(text));
    this.deliver();
  }

  onOutput(listener: (text: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Gives the guest what is held, if it may take it now. */
  deliver(): void {
    if (this.#held.length === 0 || !this.#canDeliver()) return;
    const bytes = this.#held;
    this.#held = [];
    for (const byte of bytes) this.#emulator.bus.send("serial0-input", byte);
  }

  /** Passes on what the guest wrote during a tick. */
  flush(): void {
    if (this.#received.length === 0) return;
    const text = this.#decoder.decode(Uint8Array.from(this.#received), { stream: true });
    this.#received = [];
    this.#output += text;
    if (this.#output.length > outputCharactersMax) this.#output = this.#output.slice(-outputCharactersMax / 2);
    for (const listener of this.#listeners) listener(text);
  }

  pendingInput(): Uint8Array {
    return Uint8Array.from([...this.#emulator.v86.cpu.devices.uart0.input, ...this.#held]);
  }

  restoreInput(bytes: Uint8Array): void {
    this.#emulator.v86.cpu.devices.uart0.input = [...bytes];
    this.#held = [];
    this.#received = [];
    this.#decoder = new TextDecoder();
    this.#output = "";
  }
}
