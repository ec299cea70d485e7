/*
 * theme.js - dark or light, before anything is drawn: as the system says, or as was chosen here.
 */
try {
    const theme = localStorage.getItem("hyprstream.theme");
    if (theme === "dark" || theme === "light") {
        document.documentElement.dataset.theme = theme;
    }
} catch {
    // a browser that keeps nothing follows the system
}
