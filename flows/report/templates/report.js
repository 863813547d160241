"use strict";
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = button.closest("table");
    const column = Number(heading.dataset.column);
    const descending = heading.getAttribute("aria-sort") !== "descending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort ?? "";
    const compare = (left, right) => {
      if (left === "" || right === "") return (left === "") - (right === "");
      const difference = column === 0 ? left.localeCompare(right) : Number(left) - Number(right);
      return descending ? -difference : difference;
    };
    const body = table.tBodies[0];
    [...body.rows].sort((left, right) => compare(key(left), key(right))).forEach((row) => body.append(row));
  });
}
