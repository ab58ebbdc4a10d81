"use strict";
// A click on a column's heading sorts the table by it, another one the other way round; rows without a value come last.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const isNumber = heading.classList.contains("number");
      const value = (row) => {
        const cell = row.cells[column];
        return isNumber ? parseFloat(cell.dataset.value) : cell.textContent;
      };
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row) }));
      rows.sort((one, other) => {
        if (!isNumber) return sign * one.key.localeCompare(other.key);
        if (Number.isNaN(one.key) || Number.isNaN(other.key)) return Number.isNaN(one.key) - Number.isNaN(other.key);
        return sign * (one.key - other.key);
      });
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      table.tBodies[0].append(...rows.map((one) => one.row));
    });
  });
}
