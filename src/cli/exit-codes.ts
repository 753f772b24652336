// Exit codes of the program: part of its interface, printed by --help and in the README.

export const ExitCode = {
  consistent: 0,
  /** Of `explore` and `replay`. */
  expected: 0,
  /** Of `vf serve` and `sidecar`, which audit nothing. */
  done: 0,
  notCarriedOut: 1,
  corrupt: 2,
  /** Of `explore` and `replay`. */
  unexpected: 2,
  stalled: 3,
  wrongUsage: 64,
  interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export const exitCodeMeanings: readonly (readonly [ExitCode, string])[] = [
  [ExitCode.consistent, "consistent: the guest moved and nothing it may look at was lost"],
  [ExitCode.expected, "explore: every verdict is the expected one; replay: nothing breaks"],
  [ExitCode.done, "vf serve: ended by Ctrl-C; sidecar: the guest is where it should be"],
  [ExitCode.notCarriedOut, "could not be carried out, or was cancelled; the reason is printed"],
  [ExitCode.corrupt, "corrupt: the guest moved, and its memory is not what it has to be"],
  [ExitCode.unexpected, "explore: a verdict is not the expected one; replay: something breaks"],
  [ExitCode.stalled, "stalled: the guest moved whole, but its traffic did not go on"],
  [ExitCode.wrongUsage, "wrong usage: nothing was started"],
  [ExitCode.interrupted, "interrupted a second time, and left at once"],
];
