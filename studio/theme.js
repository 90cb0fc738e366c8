// Light or dark: the system's, until the visitor chooses.

const CHOICE = "studio.theme";

export function installTheme(toggle) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem(CHOICE);
    const dark = chosen ? chosen === "dark" : system.matches;
    if (chosen) document.documentElement.dataset.theme = chosen;
    toggle.setAttribute("aria-pressed", String(dark));
  };
  toggle.addEventListener("click", () => {
    localStorage.setItem(CHOICE, toggle.getAttribute("aria-pressed") === "true" ? "light" : "dark");
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
