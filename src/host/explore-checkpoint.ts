// The file in which a search is put aside now and then, to be gone on with by a later run of the program.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { OperationError } from "../base/errors.ts";

/** One file for each strategy in a directory. Every method throws OperationError `checkpoint-file` if it cannot. */
export class CheckpointFile {
  readonly #directory: string;
  readonly #file: string;

  constructor(directory: string, strategy: string) {
    this.#directory = directory;
    this.#file = path.join(directory, `${strategy}.checkpoint`);
  }

  /** What was put aside, or undefined. */
  read(): Uint8Array | undefined {
    return this.#try("read", () => {
      try {
        return readFileSync(this.#file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    });
  }

  /** Whoever is interrupted in it leaves what was there before. */
  write(bytes: Uint8Array): void {
    this.#try("written", () => {
      mkdirSync(this.#directory, { recursive: true });
      writeFileSync(`${this.#file}.part`, bytes);
      renameSync(`${this.#file}.part`, this.#file);
    });
  }

  /** The search is over. */
  remove(): void {
    this.#try("removed", () => rmSync(this.#file, { force: true }));
  }

  #try<Result>(what: string, act: () => Result): Result {
    try {
      return act();
    } catch (error) {
      throw new OperationError({
        code: "checkpoint-file",
        message: `The checkpoint ${this.#file} could not be ${what}.`,
        advice: "Give a directory that can be written, or leave out --checkpoint.",
        facts: { file: this.#file, reason: String(error) },
        cause: error,
      });
    }
  }
}
