// Shows what stands behind the # of the link on a receipt. As text, never as markup.
"use strict";
const given = new URLSearchParams(location.hash.slice(1));
for (const field of ["name", "token"]) {
  const value = given.get(field);
  if (value) document.getElementById(field).textContent = value.slice(0, 64);
}
fetch("/api/cafes/" + encodeURIComponent(given.get("cafe") || "-"))
  .then((answer) => (answer.ok ? answer.json() : null))
  .then((cafe) => {
    if (cafe) document.getElementById("welcome").textContent = "You are about to join " + cafe.name + ".";
  })
  .catch(() => {});
