"""Words for what tools look up and are called, and for Python's variables."""

from __future__ import annotations

from typing import Final

#: What can be looked up about somebody or something.
NOUNS: Final = tuple(
    """
    address phone status color size owner capital height length distance menu schedule balance rank
    score mayor river map language currency
    age email website country team job school grade level rating year code history limit speed depth
    width volume area hour week month season flag song band book author genre plot actor recipe diet
    sugar calories engine battery model brand dealer parcel delivery order invoice tax fee debt loan
    credit budget profit vote party leader capital court case judge doctor nurse ward illness
    vaccine pulse blood station platform gate flight seat ticket hotel room guest tour beach lake
    island forest storm tide humidity wind sunrise holiday
    """.split()
)

#: Words that stand for nothing here: a name made of them can only be copied.
WORDS: Final = tuple(
    """
    age name count index size start stop step low high base rate text line word key node point
    radius length depth speed distance score level color year month day hour minute degree angle
    factor limit offset cost part user letter record entry student order file city person world
    alert animal answer apple arm arrow autumn bag bank bell bird board boat bottle bowl box bread
    bridge brush bucket butter cable cake camera candy carpet castle chain chair chart circle
    clean cloud coat coffee cook copper corner cotton create cross crowd dance desk dinner
    dollar door draw dream drive drop engine enter event fabric face farm field finger fire fish
    floor flower fold forest fork frame fruit garden glass glove gold grain grass group guide
    hammer hand harbor hat heat horse house image inform iron jacket join juice jump kitchen kite
    ladder lamp land leaf light list lock lunch machine market mask meal metal milk mirror model
    morning mountain music nail needle night noise note number office oil open orange outside
    owner page paint paper park path pencil people phone picture pipe plane plant plate pocket
    post press print quick radio rain reader report ring river road rock roof room rope round sail
    salt sand school season second send shape sheet ship shirt shoe shop short silver simple
    sister sleep small snow soap song sound space spoken spring square stage stamp star station
    stone storm street string sugar summer sun table tail team test thing ticket tool tower town
    toy track trade train tree truck tube valley view village visit voice wagon walk wall watch
    water wave wheel white wild wind window wing winter wire wood wool write yard yellow young
    """.split()
)
