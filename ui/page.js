() => {
  // What neither HTML nor CSS can do. The page works without it.
  let firstCard = "";
  let sidebarSeen = false;
  const update = () => {
    // The chat repeats each answer's HTML in its label, which a screen reader would spell out.
    for (const answer of document.querySelectorAll('#chat [data-testid="bot"][aria-label]')) {
      answer.removeAttribute("aria-label");
    }
    // A question is edited as it was typed: the chat stores Markdown syntax as character references.
    for (const box of document.querySelectorAll("#chat textarea:not([data-decoded])")) {
      box.dataset.decoded = "";
      box.value = box.value.replace(/&#(\d{1,4});/g, (_, code) => String.fromCodePoint(code));
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    // Show the sources of a new answer from the top.
    const card = document.querySelector(".sources .card")?.id ?? "";
    if (card !== firstCard) {
      firstCard = card;
      document.querySelector(".sources")?.scrollTo({ top: 0, behavior: "instant" });
    }
    // Open the list of conversations where there is room.
    const sidebar = document.querySelector(".sidebar");
    if (sidebar && !sidebarSeen) {
      sidebarSeen = true;
      const isClosed = !sidebar.classList.contains("open");
      if (window.innerWidth >= 1200 && isClosed) sidebar.querySelector(".toggle-button").click();
    }
  };
  const changes = { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"] };
  new MutationObserver(update).observe(document, changes);
  update();
}
