// The guest's console over QEMU's serial port on a socket.
import type { Duplex } from "node:stream";
import type { Console } from "../machine.ts";

export class SerialConsole implements Console {
  readonly #socket: Duplex;
  readonly #listeners = new Set<(text: string) => void>();
  #output = "";

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      this.#output += text;
      for (const listener of this.#listeners) listener(text);
    });
    // A VM that ends takes its console along; how it ended is told by the process.
    socket.on("error", () => {});
  }

  get output(): string {
    return this.#output;
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  onOutput(listener: (text: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#socket.destroy();
  }
}
