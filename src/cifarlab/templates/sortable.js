// Tables of class "sortable": a click, Enter or Space on a column's name sorts by it, once more turns the order round.
// Cells say in data-sort by what; those that say nothing come last either way. Without a script the table stays as it is.
"use strict";
(function () {
  function compare(a, b) {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  function key(row, column) {
    const cell = row.cells[column];
    return cell === undefined ? "" : cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
  }

  function sort(table, column, sign) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row: row, key: key(row, column) }));
    rows.sort((a, b) => (a.key === "" || b.key === "" ? (a.key === "") - (b.key === "") : sign * compare(a.key, b.key)));
    body.append(...rows.map((one) => one.row));
  }

  function prepare(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // figures are looked at from the top, names from A
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort");
        const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        sort(table, column, next === "ascending" ? 1 : -1);
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(prepare);

  // paper cannot be unfolded: what is folded away is opened for print, and closed again after
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    opened.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((one) => { one.open = false; });
  });
})();
