// The one VM of a host process: the source of a move or its destination, never both.
import { assert } from "../base/assert.ts";
import type { MoveResult, MoveSettings, VmHostMethods } from "./vm-host-messages.ts";

/** What a parent asks of a source, whatever its guest is. */
interface Source {
  moveOut(settings: MoveSettings): Promise<MoveResult>;
  cancel(): void;
  stopDevice(): void | Promise<void>;
}

/** Asked for what is not there, it asserts: the order of the calls is the parent's to keep. */
export class OneVm<TheSource extends Source, TheDestination> {
  #source: TheSource | undefined;
  #destination: TheDestination | undefined;

  get source(): TheSource {
    assert(this.#source !== undefined, "the guest is started first");
    return this.#source;
  }

  get destination(): TheDestination {
    assert(this.#destination !== undefined, "the destination listens first");
    return this.#destination;
  }

  get either(): TheSource | TheDestination {
    return this.#source ?? this.destination;
  }

  async becomeSource(source: () => TheSource | Promise<TheSource>): Promise<TheSource> {
    this.#assertFree();
    return (this.#source = await source());
  }

  becomeDestination(destination: () => TheDestination): TheDestination {
    this.#assertFree();
    return (this.#destination = destination());
  }

  #assertFree(): void {
    assert(this.#source === undefined && this.#destination === undefined, "a host has one VM");
  }

  /** The methods that every source answers alike. */
  readonly sourceMethods: Pick<VmHostMethods, "moveOut" | "cancel" | "stopDevice"> = {
    moveOut: async (settings) => await this.source.moveOut(settings),
    cancel: async () => {
      this.source.cancel();
      return null;
    },
    stopDevice: async () => {
      await this.source.stopDevice();
      return null;
    },
  };
}
