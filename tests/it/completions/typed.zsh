# What a shell offers at the end of each line, typed in a terminal:
#
#   typed.zsh bash|zsh COMPLETIONS CAPTURE BASH-COMPLETION LINE...
#
# bash answers with the line and everything it offers, zsh with what it offers.
# bash reads BASH-COMPLETION first.
emulate -R zsh
zmodload zsh/zpty
shell=$1 completions=$2 capture=$3 others=$4
shift 4
case $shell in
bash)
    zpty terminal 'TERM=dumb bash --norc --noprofile -i'
    setup=". $others; for file in $completions/bash/*; do . \$file; done"
    setup+="; bind -x '\"\\C-xd\": printf \"<<%s>>\" \"\$READLINE_LINE\"; READLINE_LINE='"
    # Inserts all completions, then tells the line.
    keys=$'\e*\C-xd'
    ;;
zsh)
    zpty terminal 'TERM=dumb zsh -f -i'
    setup="fpath=($completions/zsh \$fpath); autoload -Uz compinit; compinit -u -D; . $capture"
    keys=$'\t'
    ;;
esac
hear() { zpty -r terminal answer '*<<*>>' && answer=${${answer##*<<}%>>*}; }
zpty -w terminal "$setup; printf '<<%s>>' ready"
# The terminal repeats what is typed before the shell does it.
until [[ $answer == ready ]]; do hear || exit; done
for line; do
    zpty -w -n terminal $line$keys
    hear || exit
    print -r -- $answer
done
