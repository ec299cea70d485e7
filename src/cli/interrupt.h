/*
 * interrupt.h - signals that ask the program to stop something: Ctrl-C, and the ones that end it.
 *
 * SIGINT is remembered until hs_interrupt_take; when three were not taken, the program does not
 * listen and the signal's usual effect follows. SIGTERM and SIGHUP are remembered for good. Each of
 * them, and SIGWINCH, makes hs_interrupt_fd readable, so that a wait for input notices.
 *
 * Threads: the functions may be called from any thread, install by the first.
 * Source:  the self-pipe trick; POSIX.1-2017 signal concepts (only async-signal-safe calls inside).
 */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

/* Idempotent. Until it is called the signals have their usual effect. */
void hs_interrupt_install(void);
/* Whether SIGINT came since the last call, or an ending signal at any time. */
bool hs_interrupt_take(void);
/* The same without forgetting. */
bool hs_interrupt_is_pending(void);
/* SIGTERM or SIGHUP when it came, else 0. */
int hs_interrupt_end_signal(void);
/* Whether the terminal's size changed since the last call. */
bool hs_interrupt_take_resize(void);
/* While `on`, Ctrl-Z (SIGTSTP) is only remembered, so that the terminal can be given back first. */
void hs_interrupt_hold_stop(bool on);
/* Whether it came since the last call. */
bool hs_interrupt_take_stop(void);
struct termios;
/* What the third Ctrl-C in a row, which ends the program, gives the terminal back with; NULL: as it
 * is. */
void hs_interrupt_set_modes(const struct termios *modes);
/* For poll; hs_interrupt_drain empties it. -1: there is none. */
int hs_interrupt_fd(void);
void hs_interrupt_drain(void);

#endif
