import assert from "node:assert/strict";
import test from "node:test";
import { wantsColor, wantsUnicode } from "./environment.ts";

test("colours are for terminals, unless NO_COLOR or FORCE_COLOR says otherwise", () => {
  assert.equal(wantsColor(true, {}), true);
  assert.equal(wantsColor(false, {}), false);
  assert.equal(wantsColor(true, { TERM: "dumb" }), false);
  assert.equal(wantsColor(true, { NO_COLOR: "1" }), false);
  assert.equal(wantsColor(true, { NO_COLOR: "" }), true);
  assert.equal(wantsColor(false, { FORCE_COLOR: "1" }), true);
  assert.equal(wantsColor(true, { FORCE_COLOR: "1", NO_COLOR: "1" }), false);
});

test("block characters are used unless the locale or the terminal says it has none", () => {
  assert.equal(wantsUnicode({}), true);
  assert.equal(wantsUnicode({ LANG: "de_DE.UTF-8" }), true);
  assert.equal(wantsUnicode({ LANG: "C.UTF-8", LC_ALL: "C" }), false);
  assert.equal(wantsUnicode({ LC_CTYPE: "en_US.utf8", LANG: "C" }), true);
  assert.equal(wantsUnicode({ TERM: "dumb" }), false);
});
