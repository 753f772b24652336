import assert from "node:assert/strict";
import { test } from "node:test";
import { isVersionAtLeast } from "./versions.ts";

test("versions compare number by number, whatever Debian adds to them", () => {
  for (const enough of ["10.1", "10.1.0", "10.10", "11", "1:11.1.2+ds-3", "1:10.2.0+ds-1~bpo13+1", "10.1.0-rc1"]) {
    assert.ok(isVersionAtLeast(enough, "10.1"), enough);
  }
  for (const old of ["10.0.9", "9.2", "10", "1:7.2+dfsg-7+deb12u18", "20:10.0", "unknown", ""]) {
    assert.ok(!isVersionAtLeast(old, "10.1"), old);
  }
  assert.ok(isVersionAtLeast("6.12.107-1", "6.12"));
  assert.ok(!isVersionAtLeast("6.1.192-2", "6.12"));
  assert.ok(isVersionAtLeast("", "0"));
});
